/** Devices in Node, through Dawn (npm `webgpu`). */
import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { create, globals } from "webgpu";
import { AdapterError } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import { type AdapterInfo, describeAdapter, deviceDescriptor } from "./adapterInfo.ts";
import {
  type AdapterList,
  describeHidden,
  forgetAdapter,
  isSoftwareName,
  listAdapters,
  type ListOptions,
} from "./adaptersNode.ts";
import { Device, type ShaderLibrary } from "./device.ts";
import { chooseMapWait, MapPump } from "./mapPump.ts";
import { settleAtExit } from "./threadExitNode.ts";
import type { DeviceOpener, OpenOptions } from "./opener.ts";
import type { AdapterName, PciPlace } from "./physicalDevice.ts";
import { coresToPin, pinThread, threadCpus } from "./pinThreadNode.ts";

/**
 * By its options. Dawn crashes when the object from create() is collected while a device of it lives;
 * and each one opens every driver of the machine, so a thread has one an adapter, for all devices.
 */
const instances = new Map<string, GPU>();

const ENABLED_TOGGLES = [
  "allow_unsafe_apis", // subgroup matrices
  "disable_workgroup_init", // kernels never read unwritten workgroup memory; SwiftShader compiles 3x faster
  "vulkan_enable_f16_on_nvidia",
];
const DISABLED_TOGGLES = ["timestamp_quantization"];

const shaderTexts = new Map<string, string>();

/** WGSL files of this package, read when first asked for. */
export const nodeShaders: ShaderLibrary = (path) => {
  const known = shaderTexts.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(new URL(`../../shaders/${path}`, import.meta.url), "utf8");
  shaderTexts.set(path, text);
  return text;
};

function instanceFor(selector: string, disableRobustness: boolean): GPU {
  const key = `${selector} ${disableRobustness}`;
  const known = instances.get(key);
  if (known !== undefined) return known;
  Object.assign(globalThis, globals);
  const enabled = disableRobustness ? [...ENABLED_TOGGLES, "disable_robustness"] : ENABLED_TOGGLES;
  const instance = create([
    `adapter=${selector}`,
    `enable-dawn-features=${enabled.join(",")}`,
    `disable-dawn-features=${DISABLED_TOGGLES.join(",")}`,
  ]);
  instances.set(key, instance);
  return instance;
}

/** By instance, as each hands out a look at its own events. The first opener says how to wait. */
const pumps = new Map<GPU, MapPump>();

/** TANDEM_MAP_PUMP=off leaves maps to Dawn's own polling, to compare or where a new version of it differs. */
function pumpFor(instance: GPU, isSoftware: boolean, options: OpenOptions): MapPump | undefined {
  if (process.env["TANDEM_MAP_PUMP"] === "off") return undefined;
  const { ownsThread = false, numThreads = 1 } = options;
  const threadsPerCore = numThreads / navigator.hardwareConcurrency;
  const known = pumps.get(instance);
  const pump = known ?? new MapPump(chooseMapWait(isSoftware, ownsThread, threadsPerCore));
  pumps.set(instance, pump);
  return pump;
}

/** An adapter gives one device only; another device takes another adapter of the same instance. */
async function requestAdapter(
  { selector, name }: AdapterName,
  disableRobustness: boolean,
): Promise<GPUAdapter> {
  const adapter = await instanceFor(selector, disableRobustness).requestAdapter();
  if (adapter !== null) return adapter;
  throw new AdapterError({
    what: `device ${name}`,
    expected: "an adapter that Dawn accepts",
    got: "none",
    remedy: "update its Vulkan driver",
  });
}

function adapterAt({ adapters, hidden, layerProblem }: AdapterList, index: number): AdapterName {
  const adapter = adapters[index];
  if (adapter !== undefined) return adapter;
  const range = adapters.length === 0 ? "an adapter" : `an index from 0 to ${adapters.length - 1}`;
  throw new AdapterError({
    what: "device",
    expected: hidden.length === 0 ? range : `${range} (${describeHidden(hidden, layerProblem)})`,
    got: index,
    remedy: "`node run.ts devices` lists them",
  });
}

/** A worker thread stays near its device: see pinThreadNode.ts. The main thread serves all of them. */
function pinTo(place: PciPlace | null, label: string): void {
  const [numaCpus, allowed] = [place?.numaCpus ?? null, threadCpus()];
  if (isMainThread || numaCpus === null || allowed === null) return;
  const cores = coresToPin(numaCpus, allowed);
  if (cores === null) return;
  const isPinned = pinThread(cores);
  createLogger("devices").debug(
    `${label}: ${isPinned ? "pinned" : "could not be pinned"} to ${cores.length} cores of NUMA node ${place?.numaNode ?? "?"}`,
  );
}

/** For tests alone. */
export interface ProofOptions {
  /** disableRobustness holds on software adapters too: to prove that kernels stay in range. */
  readonly alsoOnSoftware?: boolean;
}

export class NodeOpener implements DeviceOpener {
  readonly #alsoOnSoftware: boolean;

  constructor({ alsoOnSoftware = false }: ProofOptions = {}) {
    this.#alsoOnSoftware = alsoOnSoftware;
  }

  async list(options: ListOptions = {}): Promise<readonly AdapterInfo[]> {
    const infos: AdapterInfo[] = [];
    for (const found of (await listAdapters(options)).adapters) {
      const adapter = await requestAdapter(found, false).catch(() => null);
      if (adapter === null) forgetAdapter(found.selector);
      else infos.push(describeAdapter(adapter, found.name, found.physical));
    }
    return infos;
  }

  async open(options: OpenOptions): Promise<Device> {
    const { index, label, disableRobustness = false } = options;
    const found = adapterAt(await listAdapters(), index);
    pinTo(found.physical?.place ?? null, label); // first: threads take their cores from who starts them
    const mayBeUnchecked = this.#alsoOnSoftware || !isSoftwareName(found.name);
    const unchecked = disableRobustness && mayBeUnchecked;
    const adapter = await requestAdapter(found, unchecked);
    const described = describeAdapter(adapter, found.name, found.physical);
    const info = { ...described, tuned: options.tuned };
    const device = new Device(
      await adapter.requestDevice(deviceDescriptor(info, label)),
      info,
      nodeShaders,
      pumpFor(instanceFor(found.selector, unchecked), info.isSoftware, options),
    );
    settleAtExit(device);
    return device;
  }
}
