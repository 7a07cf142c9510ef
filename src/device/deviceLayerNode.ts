/**
 * Switches on the Vulkan layer in native/, which tells equal GPUs apart; see docs/adr/0008.
 * The loader reads its environment at each vkCreateInstance, and only the main thread's `process.env`
 * is the process's: it is set there before the first instance, and worker threads find it in place.
 */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
import { UsageError } from "../common/errors.ts";
import { installedDrivers } from "../common/vulkanDriversNode.ts";
import { countGpus, countNumaNodes } from "./topologyNode.ts";
import { needsIdentity, VISIBLE_DEVICES_VARIABLE } from "./visibleDevices.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** `auto` (where needed), `on` or `off`. */
export const LAYER_VARIABLE = "TANDEM_DEVICE_LAYER";

const LAYER = "VK_LAYER_TANDEM_devices";
const FOLDER = fileURLToPath(new URL("../../native/linux-x64", import.meta.url));
const LIBRARY = join(FOLDER, "libVkLayer_tandem_devices.so");
const LAVAPIPE = /lvp_icd[^/]*\.json$/;

/** What decides whether the layer is needed. */
export interface Machine {
  readonly numGpus: number;
  readonly numNumaNodes: number;
  /** The drivers' manifests that the Vulkan loader would read. */
  readonly drivers: readonly string[];
}

/** Why the layer is needed, known before Dawn is asked for anything; null where it is not. */
export function layerReason(env: Environment, machine: Machine): string | null {
  const mode = env[LAYER_VARIABLE] || "auto";
  if (mode === "off") return null;
  if (mode === "on") return `${LAYER_VARIABLE}=on`;
  if (mode !== "auto") {
    throw new UsageError({ what: LAYER_VARIABLE, expected: "one of auto, on, off", got: mode });
  }
  if (needsIdentity(env[VISIBLE_DEVICES_VARIABLE])) return VISIBLE_DEVICES_VARIABLE;
  if (machine.numGpus > 1) return `${machine.numGpus} GPUs`;
  if (machine.numGpus > 0 && machine.numNumaNodes > 1) return `${machine.numNumaNodes} NUMA nodes`;
  // Dawn warns of two limits of lavapipe, for each instance; the layer spares that.
  return machine.drivers.some((driver) => LAVAPIPE.test(driver)) ? "lavapipe" : null;
}

/** Said once the loader was asked for the layer and its names bore no tag. */
let isRefused = false;

/** Why the layer cannot work here, as the end of a sentence; undefined where it can. */
export function layerProblem(env: Environment = process.env): string | undefined {
  const { platform, arch } = process;
  if (env[LAYER_VARIABLE] === "off") return `${LAYER_VARIABLE}=off switches off`;
  if (platform !== "linux" || arch !== "x64")
    return `is built for linux-x64, not ${platform}-${arch}`;
  if (isRefused) return "the Vulkan loader did not load";
  return existsSync(LIBRARY) ? undefined : `is missing: ${LIBRARY}`;
}

/** A list variable with one entry more, unless it has it. */
function withEntry(list: string | undefined, entry: string): string {
  const entries = (list ?? "").split(delimiter).filter(Boolean);
  return entries.includes(entry) ? entries.join(delimiter) : [...entries, entry].join(delimiter);
}

export function isLayerOn(env: Environment = process.env): boolean {
  return env["VK_INSTANCE_LAYERS"]?.split(delimiter).includes(LAYER) ?? false;
}

/** From the next instance on; what the user has set stays. Does nothing where the layer cannot work. */
export function switchLayerOn(): void {
  if (layerProblem() !== undefined || isLayerOn() || !isMainThread) return;
  const { env } = process;
  if (env["VK_LAYER_PATH"] === undefined) {
    env["VK_ADD_LAYER_PATH"] = withEntry(env["VK_ADD_LAYER_PATH"], FOLDER);
  } else env["VK_LAYER_PATH"] = withEntry(env["VK_LAYER_PATH"], FOLDER); // then no other is read
  env["VK_INSTANCE_LAYERS"] = withEntry(env["VK_INSTANCE_LAYERS"], LAYER);
}

/** Asks no more for a layer that the loader does not load: it would warn at each instance. */
export function giveLayerUp(): void {
  isRefused = true;
  const { env } = process;
  const others = (env["VK_INSTANCE_LAYERS"] ?? "")
    .split(delimiter)
    .filter((name) => name !== LAYER);
  if (isMainThread) env["VK_INSTANCE_LAYERS"] = others.join(delimiter);
}

/** This machine, as far as the layer is concerned. */
export function readMachine(env: Environment = process.env): Machine {
  if (process.platform !== "linux") return { numGpus: 0, numNumaNodes: 1, drivers: [] };
  return { numGpus: countGpus(), numNumaNodes: countNumaNodes(), drivers: installedDrivers(env) };
}
