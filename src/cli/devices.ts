/** `devices`: what there is to run on, with what each one can and how fast it reads. */
import type { Command } from "commander";
import { AdapterError, messageOf, TandemError } from "../common/errors.ts";
import type { listDevices, measureDevice } from "../runtime/devices.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, type JsonFlag } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { formatBinaryBytes, formatFigure, formatTable } from "./table.ts";

type DeviceInfo = Awaited<ReturnType<typeof listDevices>>[number];
type DeviceSpeed = Awaited<ReturnType<typeof measureDevice>>;

/** A device; without a speed where measuring failed. */
interface MeasuredDevice {
  readonly index: number;
  readonly info: DeviceInfo;
  readonly speed: DeviceSpeed | undefined;
}

/** Adds the command to the program. */
export function addDevices(program: Command, context: CommandContext): void {
  const command = program
    .command("devices")
    .summary("list the GPUs, with limits and measured speed")
    .description("Lists the devices by the number that --devices takes, and measures each one.");
  addJsonFlag(command, "a JSON array of devices on stdout");
  command.action(async (flags: JsonFlag) => {
    await ensureAdapter();
    const devices = await measureAll(context);
    if (flags.json === true) context.print(JSON.stringify(devices.map(deviceAsJson)));
    else context.print(formatDevices(devices));
  });
}

async function measureAll(context: CommandContext): Promise<MeasuredDevice[]> {
  const { listDevices, measureDevice } = await import("../runtime/devices.ts");
  const devices: MeasuredDevice[] = [];
  for (const [index, info] of (await listDevices()).entries()) {
    context.stop.signal.throwIfAborted();
    const speed = await measureDevice(index).catch((error: unknown) => {
      if (!(error instanceof TandemError)) throw error;
      context.say(`warning: device ${index}: ${messageOf(error)}`);
      return undefined;
    });
    devices.push({ index, info, speed });
  }
  if (devices.length > 0) return devices;
  throw new AdapterError({
    what: "devices",
    expected: "at least one",
    got: "none",
    remedy: "install a Vulkan driver for the GPU, or lavapipe",
  });
}

/** `f16, subgroups 4-32, timestamps`; a dash where there is none. */
function describeFeatures({ info }: MeasuredDevice): string {
  const { subgroupMinSize: min, subgroupMaxSize: max } = info;
  const features = [
    info.hasF16 ? "f16" : "",
    info.hasSubgroups ? `subgroups ${min === max ? min : `${min}-${max}`}` : "",
    info.hasTimestamps ? "timestamps" : "",
    hasSubgroupMatrix(info) ? "subgroup matrix" : "",
  ];
  return features.filter(Boolean).join(", ") || "-";
}

function hasSubgroupMatrix({ features }: DeviceInfo): boolean {
  return features.some((feature) => feature.endsWith("subgroup-matrix"));
}

/** The first device that is the same GPU, by another driver; undefined where this one is the first. */
function sameGpuAs(device: MeasuredDevice, devices: readonly MeasuredDevice[]): number | undefined {
  const address = device.info.physical?.pciAddress ?? null;
  if (address === null) return undefined;
  const first = devices.find(({ info }) => info.physical?.pciAddress === address);
  return first?.index === device.index ? undefined : first?.index;
}

/** Not a GPU of its own: made by a hypervisor, or another device under another driver. */
function isVirtual(device: MeasuredDevice, devices: readonly MeasuredDevice[]): boolean {
  return device.info.physical?.kind === "virtual" || sameGpuAs(device, devices) !== undefined;
}

function describeType(device: MeasuredDevice, devices: readonly MeasuredDevice[]): string {
  const same = sameGpuAs(device, devices);
  if (same !== undefined) return `virtual: same GPU as ${same}`;
  if (device.info.physical?.kind === "virtual") return "virtual";
  return device.info.isSoftware ? "software" : "hardware";
}

/** Which GPU it is, then what it can. */
export function formatDevices(devices: readonly MeasuredDevice[]): string {
  return `${formatIdentities(devices)}\n\n${formatAbilities(devices)}`;
}

function formatIdentities(devices: readonly MeasuredDevice[]): string {
  const columns = [
    { title: "index", isFigure: true },
    { title: "name" },
    { title: "type" },
    { title: "PCI address" },
    { title: "NUMA", isFigure: true },
    { title: "memory", isFigure: true },
    { title: "UUID" },
    { title: "driver" },
  ];
  const rows = devices.map((device) => {
    const { index, info } = device;
    const { physical } = info;
    return [
      String(index),
      info.name,
      describeType(device, devices),
      physical?.pciAddress ?? "-",
      String(physical?.place?.numaNode ?? "-"),
      physical === null ? "-" : formatBinaryBytes(physical.memoryBytes),
      physical?.uuid ?? "-",
      info.description,
    ];
  });
  return formatTable(columns, rows);
}

function formatAbilities(devices: readonly MeasuredDevice[]): string {
  const columns = [
    { title: "index", isFigure: true },
    { title: "read GB/s", isFigure: true },
    { title: "map µs", isFigure: true },
    { title: "buffer", isFigure: true },
    { title: "binding", isFigure: true },
    { title: "workgroup", isFigure: true },
    { title: "invocations", isFigure: true },
    { title: "features" },
  ];
  const rows = devices.map((device) => {
    const { index, info, speed } = device;
    const { limits } = info;
    return [
      String(index),
      speed === undefined ? "-" : formatFigure(speed.readBandwidthGBps),
      speed === undefined ? "-" : formatFigure(speed.mapLatencyUs),
      formatBinaryBytes(limits.maxBufferSize),
      formatBinaryBytes(limits.maxStorageBufferBindingSize),
      formatBinaryBytes(limits.maxComputeWorkgroupStorageSize),
      String(limits.maxComputeInvocationsPerWorkgroup),
      describeFeatures(device),
    ];
  });
  return formatTable(columns, rows);
}

/** One entry of what --json prints. */
export function deviceAsJson(
  device: MeasuredDevice,
  _at: number,
  devices: readonly MeasuredDevice[],
): Record<string, unknown> {
  const { index, info, speed } = device;
  const { physical } = info;
  return {
    index,
    name: info.name,
    type: info.isSoftware ? "software" : "hardware",
    virtual: isVirtual(device, devices),
    same_gpu_as: sameGpuAs(device, devices) ?? null,
    uuid: physical?.uuid ?? null,
    pci_address: physical?.pciAddress ?? null,
    pci_path: physical?.place?.path ?? null,
    numa_node: physical?.place?.numaNode ?? null,
    numa_cpus: physical?.place?.numaCpus ?? null,
    memory_bytes: physical?.memoryBytes ?? null,
    kind: physical?.kind ?? null,
    vendor: info.vendor,
    architecture: info.architecture,
    driver: info.description,
    features: {
      f16: info.hasF16,
      subgroups: info.hasSubgroups ? [info.subgroupMinSize, info.subgroupMaxSize] : null,
      timestamps: info.hasTimestamps,
      subgroup_matrix: hasSubgroupMatrix(info),
    },
    limits: info.limits,
    read_gb_per_s: speed?.readBandwidthGBps ?? null,
    map_latency_us: speed?.mapLatencyUs ?? null,
  };
}
