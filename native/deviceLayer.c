/*
 * VK_LAYER_TANDEM_devices: makes every Vulkan device tell who it is, in its name.
 *
 * Dawn shows of an adapter little but its name, and selects by it: of eight equal GPUs it always
 * opens the first. This explicit layer sits between Dawn and the drivers and appends a tag to each
 * device name:
 *
 *   NVIDIA H200 [tandem 3 uuid=6f5c…-… pci=0000:9b:00.0 heap=150754820096 type=discrete]
 *
 *     3     position in vkEnumeratePhysicalDevices, so that no two names are equal
 *     uuid  VkPhysicalDeviceIDProperties.deviceUUID
 *     pci   VkPhysicalDevicePCIBusInfoPropertiesEXT, or "-"
 *     heap  bytes of the largest device-local memory heap
 *     type  discrete, integrated, virtual, cpu or other
 *
 * src/device/deviceTag.ts reads it. The layer also lowers two limits to the most that Dawn uses of
 * them, which spares two lines of warning an adapter and instance on drivers that allow more. It
 * hooks instance functions only: what a device is told does not pass through it.
 *
 * Interface: "Vulkan Loader Interfaces", layer interface version 2.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan_core.h>

/* What Dawn reduces maxDynamic{Uniform,Storage}BuffersPerPipelineLayout to, by its own warning. */
#define MAX_DYNAMIC_BUFFERS 16u
/* Bytes of the driver's own name that are kept: the tag takes at most 125 of 256. */
#define MAX_NAME_BYTES 128
#define UUID_TEXT_BYTES 37
#define PCI_TEXT_BYTES 20
#define NO_PCI UINT32_MAX

/* Ties the binary to its source: build.sh defines it, a test compares. */
#ifndef SOURCE_SHA256
#define SOURCE_SHA256 "unknown"
#endif
__attribute__((used)) static const char source_mark[] = "tandem source sha256 " SOURCE_SHA256;

/* One VkInstance, and the functions of the next layer or the loader for it. */
typedef struct Instance {
  struct Instance *next;
  const void *key;
  VkInstance handle;
  PFN_vkGetInstanceProcAddr get_proc;
  PFN_vkDestroyInstance destroy;
  PFN_vkEnumeratePhysicalDevices enumerate;
  PFN_vkEnumerateDeviceExtensionProperties extensions;
  PFN_vkGetPhysicalDeviceMemoryProperties memory;
  PFN_vkGetPhysicalDeviceProperties properties;
  PFN_vkGetPhysicalDeviceProperties2 properties2; /* core or KHR; NULL in a Vulkan 1.0 instance */
} Instance;

static Instance *instances;
static pthread_mutex_t instances_lock = PTHREAD_MUTEX_INITIALIZER;

/* The loader puts a dispatch table first in an instance, and the same one in each of its devices. */
static const void *key_of(const void *handle) { return *(const void *const *)handle; }

static Instance *find_instance(const void *handle) {
  pthread_mutex_lock(&instances_lock);
  Instance *found = instances;
  while (found && found->key != key_of(handle)) found = found->next;
  pthread_mutex_unlock(&instances_lock);
  return found;
}

/* ---- the tag ---------------------------------------------------------------------------------- */

static const char *type_name(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return "cpu";
    default: return "other";
  }
}

/* 8-4-4-4-12 hexadecimal digits. */
static void format_uuid(const uint8_t uuid[VK_UUID_SIZE], char text[UUID_TEXT_BYTES]) {
  char *at = text;
  for (uint32_t i = 0; i < VK_UUID_SIZE; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    at += snprintf(at, 3, "%02x", uuid[i]);
  }
}

/* domain:bus:device.function as /sys/bus/pci/devices writes it. */
static void format_pci(const VkPhysicalDevicePCIBusInfoPropertiesEXT *pci, char text[PCI_TEXT_BYTES]) {
  if (pci->pciBus == NO_PCI) snprintf(text, PCI_TEXT_BYTES, "-");
  else
    snprintf(text, PCI_TEXT_BYTES, "%04x:%02x:%02x.%x", pci->pciDomain, pci->pciBus & 0xff,
             pci->pciDevice & 0x1f, pci->pciFunction & 0x7);
}

/* Position of a device in the instance's list, or -1 where the list cannot be read. */
static int position_of(const Instance *instance, VkPhysicalDevice device) {
  uint32_t count = 0;
  if (instance->enumerate(instance->handle, &count, NULL) != VK_SUCCESS) return -1;
  VkPhysicalDevice *list = calloc(count, sizeof *list);
  int position = -1;
  if (list && instance->enumerate(instance->handle, &count, list) >= VK_SUCCESS)
    for (uint32_t i = 0; i < count && position < 0; i++)
      if (list[i] == device) position = (int)i;
  free(list);
  return position;
}

static VkDeviceSize largest_heap(const Instance *instance, VkPhysicalDevice device) {
  VkPhysicalDeviceMemoryProperties memory;
  instance->memory(device, &memory);
  VkDeviceSize largest = 0;
  for (uint32_t i = 0; i < memory.memoryHeapCount; i++) {
    const VkMemoryHeap *heap = &memory.memoryHeaps[i];
    if ((heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && heap->size > largest) largest = heap->size;
  }
  return largest;
}

static int has_pci_extension(const Instance *instance, VkPhysicalDevice device) {
  uint32_t count = 0;
  if (instance->extensions(device, NULL, &count, NULL) != VK_SUCCESS) return 0;
  VkExtensionProperties *list = calloc(count, sizeof *list);
  int found = 0;
  if (list && instance->extensions(device, NULL, &count, list) >= VK_SUCCESS)
    for (uint32_t i = 0; i < count && !found; i++)
      found = strcmp(list[i].extensionName, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME) == 0;
  free(list);
  return found;
}

static void append_tag(const Instance *instance, VkPhysicalDevice device,
                       VkPhysicalDeviceProperties *properties) {
  VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT, .pciBus = NO_PCI};
  VkPhysicalDeviceIDProperties id = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
      .pNext = has_pci_extension(instance, device) ? &pci : NULL};
  VkPhysicalDeviceProperties2 all = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
  instance->properties2(device, &all);
  /* lavapipe says 0000:00:00.0, where another device sits. */
  if (all.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU) pci.pciBus = NO_PCI;

  char uuid[UUID_TEXT_BYTES], pci_address[PCI_TEXT_BYTES];
  format_uuid(id.deviceUUID, uuid);
  format_pci(&pci, pci_address);
  snprintf(properties->deviceName, sizeof properties->deviceName,
           "%.*s [tandem %d uuid=%s pci=%s heap=%llu type=%s]", MAX_NAME_BYTES,
           all.properties.deviceName, position_of(instance, device), uuid, pci_address,
           (unsigned long long)largest_heap(instance, device),
           type_name(all.properties.deviceType));
}

static void lower(uint32_t *limit, uint32_t most) {
  if (*limit > most) *limit = most;
}

static void edit_properties(const Instance *instance, VkPhysicalDevice device,
                            VkPhysicalDeviceProperties *properties) {
  lower(&properties->limits.maxDescriptorSetUniformBuffersDynamic, MAX_DYNAMIC_BUFFERS);
  lower(&properties->limits.maxDescriptorSetStorageBuffersDynamic, MAX_DYNAMIC_BUFFERS);
  if (instance->properties2) append_tag(instance, device, properties);
}

/* ---- the functions that Dawn calls in place of the loader's ------------------------------------- */

static VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice device,
                                                 VkPhysicalDeviceProperties *properties) {
  const Instance *instance = find_instance(device);
  instance->properties(device, properties);
  edit_properties(instance, device, properties);
}

static VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice device,
                                                  VkPhysicalDeviceProperties2 *properties) {
  const Instance *instance = find_instance(device);
  instance->properties2(device, properties);
  edit_properties(instance, device, &properties->properties);
}

/* The link to the next layer, which the loader hands over in the chain of the create info. */
static VkLayerInstanceCreateInfo *find_link(const VkInstanceCreateInfo *info) {
  VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO &&
                   link->function == VK_LAYER_LINK_INFO))
    link = (VkLayerInstanceCreateInfo *)link->pNext;
  return link;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkInstance *handle) {
  VkLayerInstanceCreateInfo *link = find_link(info);
  Instance *instance = calloc(1, sizeof *instance);
  if (!link || !instance) {
    free(instance);
    return link ? VK_ERROR_OUT_OF_HOST_MEMORY : VK_ERROR_INITIALIZATION_FAILED;
  }
  PFN_vkGetInstanceProcAddr get_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext; /* the next layer finds its own link */
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)get_proc(NULL, "vkCreateInstance");
  VkResult result = create ? create(info, allocator, handle) : VK_ERROR_INITIALIZATION_FAILED;
  if (result != VK_SUCCESS) {
    free(instance);
    return result;
  }
  instance->key = key_of(*handle);
  instance->handle = *handle;
  instance->get_proc = get_proc;
#define NEXT(type, name) (type) get_proc(*handle, name)
  instance->destroy = NEXT(PFN_vkDestroyInstance, "vkDestroyInstance");
  instance->enumerate = NEXT(PFN_vkEnumeratePhysicalDevices, "vkEnumeratePhysicalDevices");
  instance->extensions =
      NEXT(PFN_vkEnumerateDeviceExtensionProperties, "vkEnumerateDeviceExtensionProperties");
  instance->memory =
      NEXT(PFN_vkGetPhysicalDeviceMemoryProperties, "vkGetPhysicalDeviceMemoryProperties");
  instance->properties = NEXT(PFN_vkGetPhysicalDeviceProperties, "vkGetPhysicalDeviceProperties");
  instance->properties2 = NEXT(PFN_vkGetPhysicalDeviceProperties2, "vkGetPhysicalDeviceProperties2");
  if (!instance->properties2)
    instance->properties2 =
        NEXT(PFN_vkGetPhysicalDeviceProperties2, "vkGetPhysicalDeviceProperties2KHR");
#undef NEXT
  pthread_mutex_lock(&instances_lock);
  instance->next = instances;
  instances = instance;
  pthread_mutex_unlock(&instances_lock);
  return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance handle,
                                                   const VkAllocationCallbacks *allocator) {
  if (!handle) return;
  pthread_mutex_lock(&instances_lock);
  Instance **at = &instances;
  while (*at && (*at)->handle != handle) at = &(*at)->next;
  Instance *instance = *at;
  if (instance) *at = instance->next;
  pthread_mutex_unlock(&instances_lock);
  if (!instance) return;
  instance->destroy(handle, allocator);
  free(instance);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_proc(VkInstance handle,
                                                                  const char *name) {
  static const struct {
    const char *name;
    PFN_vkVoidFunction function;
  } hooks[] = {
      {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance_proc},
      {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
      {"vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance},
      {"vkGetPhysicalDeviceProperties", (PFN_vkVoidFunction)get_properties},
      {"vkGetPhysicalDeviceProperties2", (PFN_vkVoidFunction)get_properties2},
      {"vkGetPhysicalDeviceProperties2KHR", (PFN_vkVoidFunction)get_properties2},
  };
  const Instance *instance = handle ? find_instance(handle) : NULL;
  PFN_vkVoidFunction next = instance ? instance->get_proc(handle, name) : NULL;
  if (instance && !next) return NULL; /* not there below either, as the KHR name without its extension */
  for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
    if (strcmp(hooks[i].name, name) == 0) return hooks[i].function;
  return next;
}

/* The only symbol that the loader looks up. */
__attribute__((visibility("default"))) VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface) {
  if (interface->loaderLayerInterfaceVersion < 2) return VK_ERROR_INITIALIZATION_FAILED;
  interface->loaderLayerInterfaceVersion = 2;
  interface->pfnGetInstanceProcAddr = get_instance_proc;
  interface->pfnGetDeviceProcAddr = NULL; /* no hook on a device, so no link in its chain */
  interface->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
