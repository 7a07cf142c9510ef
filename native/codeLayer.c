/*
 * VK_LAYER_TANDEM_code: writes what a driver makes of each compute pipeline, for work on kernels.
 *
 * For the n-th compute pipeline of a process, in the folder that TANDEM_CODE_DIR names:
 *
 *   n.cache   what vkGetPipelineCacheData gives of a cache that holds nothing else
 *   n.stats   a line a statistic of VK_KHR_pipeline_executable_properties: registers, stack, workgroup memory
 *
 * bench/driverCode.ts reads both. An explicit layer for one instance and one device, as Dawn makes them; nothing of
 * Tandem needs it, so no build of it is kept. To build and use it: native/README.md.
 *
 * Interface: "Vulkan Loader Interfaces", layer interface version 2.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan_core.h>

#define EXTENSION VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME
#define MAX_PATH_BYTES 512

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static VkInstance instance;
static PFN_vkCreateComputePipelines create;
static PFN_vkCreatePipelineCache create_cache;
static PFN_vkDestroyPipelineCache destroy_cache;
static PFN_vkGetPipelineCacheData cache_data;
static PFN_vkGetPipelineExecutablePropertiesKHR executables;
static PFN_vkGetPipelineExecutableStatisticsKHR statistics;
static unsigned num_pipelines;

static FILE *open_file(const char *dir, unsigned number, const char *suffix) {
  char path[MAX_PATH_BYTES];
  snprintf(path, sizeof path, "%s/%u.%s", dir, number, suffix);
  FILE *file = fopen(path, "wb");
  if (file == NULL) fprintf(stderr, "%s: cannot be written\n", path);
  return file;
}

static void write_cache(VkDevice device, VkPipelineCache cache, const char *dir, unsigned number) {
  size_t size = 0;
  if (cache_data(device, cache, &size, NULL) != VK_SUCCESS) return;
  char *bytes = malloc(size);
  FILE *file = open_file(dir, number, "cache");
  if (bytes != NULL && file != NULL && cache_data(device, cache, &size, bytes) == VK_SUCCESS) {
    fwrite(bytes, 1, size, file);
  }
  if (file != NULL) fclose(file);
  free(bytes);
}

static void write_value(FILE *file, const VkPipelineExecutableStatisticKHR *one) {
  const char *name = one->name;
  switch (one->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
      fprintf(file, "%s\t%u\n", name, one->value.b32);
      break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
      fprintf(file, "%s\t%lld\n", name, (long long)one->value.i64);
      break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
      fprintf(file, "%s\t%llu\n", name, (unsigned long long)one->value.u64);
      break;
    default:
      fprintf(file, "%s\t%g\n", name, one->value.f64);
  }
}

static void write_statistics(VkDevice device, VkPipeline pipeline, const char *dir, unsigned number) {
  if (executables == NULL || statistics == NULL) return;
  FILE *file = open_file(dir, number, "stats");
  if (file == NULL) return;
  const VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
  uint32_t count = 0;
  executables(device, &info, &count, NULL);
  for (uint32_t index = 0; index < count; index++) {
    const VkPipelineExecutableInfoKHR one = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline, .executableIndex = index};
    uint32_t num = 0;
    statistics(device, &one, &num, NULL);
    VkPipelineExecutableStatisticKHR *all = calloc(num, sizeof *all);
    if (all == NULL) break;
    for (uint32_t i = 0; i < num; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    statistics(device, &one, &num, all);
    for (uint32_t i = 0; i < num; i++) write_value(file, &all[i]);
    free(all);
  }
  fclose(file);
}

/* Each pipeline goes through a cache of its own; the caller's stays as it is. */
static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
    const VkComputePipelineCreateInfo *infos, const VkAllocationCallbacks *allocator, VkPipeline *pipelines) {
  const char *dir = getenv("TANDEM_CODE_DIR");
  if (dir == NULL) return create(device, cache, count, infos, allocator, pipelines);
  VkResult result = VK_SUCCESS;
  for (uint32_t i = 0; i < count; i++) {
    VkComputePipelineCreateInfo info = infos[i];
    if (statistics != NULL) info.flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
    const VkPipelineCacheCreateInfo empty = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    VkPipelineCache own = VK_NULL_HANDLE;
    create_cache(device, &empty, NULL, &own);
    const VkResult one = create(device, own, 1, &info, allocator, &pipelines[i]);
    if (one == VK_SUCCESS) {
      const unsigned number = num_pipelines++;
      write_cache(device, own, dir, number);
      write_statistics(device, pipelines[i], dir, number);
    } else {
      result = one;
    }
    destroy_cache(device, own, NULL);
  }
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(
    const VkInstanceCreateInfo *info, const VkAllocationCallbacks *allocator, VkInstance *made) {
  VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
  while (link != NULL && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO &&
                           link->function == VK_LAYER_LINK_INFO)) {
    link = (VkLayerInstanceCreateInfo *)link->pNext;
  }
  if (link == NULL) return VK_ERROR_INITIALIZATION_FAILED;
  next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const PFN_vkCreateInstance make = (PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance");
  const VkResult result = make(info, allocator, made);
  if (result == VK_SUCCESS) instance = *made;
  return result;
}

/* The device with the extension as well, or without it where the driver has none. */
static VkResult create_with_extension(PFN_vkCreateDevice make, VkPhysicalDevice physical,
    const VkDeviceCreateInfo *info, const VkAllocationCallbacks *allocator, VkDevice *made) {
  const uint32_t count = info->enabledExtensionCount;
  const char **names = calloc(count + 1, sizeof *names);
  if (names == NULL) return VK_ERROR_OUT_OF_HOST_MEMORY;
  if (count > 0) memcpy(names, info->ppEnabledExtensionNames, count * sizeof *names);
  names[count] = EXTENSION;
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR feature = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
      .pNext = (void *)info->pNext,
      .pipelineExecutableInfo = VK_TRUE};
  VkDeviceCreateInfo more = *info;
  more.pNext = &feature;
  more.enabledExtensionCount = count + 1;
  more.ppEnabledExtensionNames = names;
  const VkResult result = make(physical, &more, allocator, made);
  free(names);
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
    const VkAllocationCallbacks *allocator, VkDevice *made) {
  VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)info->pNext;
  while (link != NULL && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO &&
                           link->function == VK_LAYER_LINK_INFO)) {
    link = (VkLayerDeviceCreateInfo *)link->pNext;
  }
  if (link == NULL) return VK_ERROR_INITIALIZATION_FAILED;
  const PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  VkLayerDeviceLink *const next = link->u.pLayerInfo->pNext;
  link->u.pLayerInfo = next;
  const PFN_vkCreateDevice make = (PFN_vkCreateDevice)get(instance, "vkCreateDevice");
  VkResult result = create_with_extension(make, physical, info, allocator, made);
  const int has_statistics = result == VK_SUCCESS;
  if (!has_statistics) {
    link->u.pLayerInfo = next;
    result = make(physical, info, allocator, made);
  }
  if (result != VK_SUCCESS) return result;
#define FIND(type, name) (type) next_device(*made, name)
  create = FIND(PFN_vkCreateComputePipelines, "vkCreateComputePipelines");
  create_cache = FIND(PFN_vkCreatePipelineCache, "vkCreatePipelineCache");
  destroy_cache = FIND(PFN_vkDestroyPipelineCache, "vkDestroyPipelineCache");
  cache_data = FIND(PFN_vkGetPipelineCacheData, "vkGetPipelineCacheData");
  if (has_statistics) {
    executables = FIND(PFN_vkGetPipelineExecutablePropertiesKHR, "vkGetPipelineExecutablePropertiesKHR");
    statistics = FIND(PFN_vkGetPipelineExecutableStatisticsKHR, "vkGetPipelineExecutableStatisticsKHR");
  }
#undef FIND
  return result;
}

static PFN_vkVoidFunction own_function(const char *name) {
  if (strcmp(name, "vkCreateInstance") == 0) return (PFN_vkVoidFunction)create_instance;
  if (strcmp(name, "vkCreateDevice") == 0) return (PFN_vkVoidFunction)create_device;
  if (strcmp(name, "vkCreateComputePipelines") == 0) return (PFN_vkVoidFunction)create_pipelines;
  return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc(VkDevice device, const char *name) {
  if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)get_device_proc;
  if (strcmp(name, "vkCreateComputePipelines") == 0) return (PFN_vkVoidFunction)create_pipelines;
  return next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_proc(VkInstance of, const char *name) {
  if (strcmp(name, "vkGetInstanceProcAddr") == 0) return (PFN_vkVoidFunction)get_instance_proc;
  if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)get_device_proc;
  const PFN_vkVoidFunction own = own_function(name);
  if (own != NULL) return own;
  return next_instance == NULL ? NULL : next_instance(of, name);
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *ask) {
  ask->loaderLayerInterfaceVersion = 2;
  ask->pfnGetInstanceProcAddr = get_instance_proc;
  ask->pfnGetDeviceProcAddr = get_device_proc;
  ask->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
