/** The adapters of this machine in the order of `--devices`, each by a name that only it has. */
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";
import { create } from "webgpu";
import { messageOf } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import {
  giveLayerUp,
  isLayerOn,
  layerProblem,
  layerReason,
  readMachine,
  switchLayerOn,
} from "./deviceLayerNode.ts";
import { chooseLavapipeThreads } from "./lavapipeThreadsNode.ts";
import {
  type AdapterName,
  adaptersInMessage,
  ambiguousNames,
  parseAdapterName,
} from "./physicalDevice.ts";
import { readPciPlace } from "./topologyNode.ts";
import { needsIdentity, visibleAdapters, VISIBLE_DEVICES_VARIABLE } from "./visibleDevices.ts";

/** Names of CPU implementations, so that hardware sorts first before any adapter is opened. */
const SOFTWARE_NAMES = /swiftshader|llvmpipe|lavapipe|microsoft basic render/i;
/** The slowest: last of all. */
const SLOWEST_NAME = /swiftshader/i;

/** True for SwiftShader, lavapipe and the like. */
export function isSoftwareName(name: string): boolean {
  return SOFTWARE_NAMES.test(name);
}

/** What was found, and what was wrong with it. */
export interface AdapterList {
  readonly adapters: readonly AdapterName[];
  /** Names of adapters left out, since Dawn would open another one in their place. */
  readonly hidden: readonly string[];
  /** Why the device layer is not at work, as the end of a sentence; undefined where it is or need not be. */
  readonly layerProblem: string | undefined;
}

export interface ListOptions {
  /** Switches the device layer on for the sake of UUIDs and PCI addresses alone. */
  readonly identify?: boolean;
}

/** Hardware first, then lavapipe, then SwiftShader. */
function slowness({ name }: AdapterName): number {
  return Number(isSoftwareName(name)) + Number(SLOWEST_NAME.test(name));
}

/** Dawn has no list: asking for an adapter that cannot exist makes it name all that do. */
async function askDawn(): Promise<readonly string[]> {
  try {
    await create(["adapter=no adapter has this name"]).requestAdapter();
    return [];
  } catch (error) {
    return adaptersInMessage(messageOf(error));
  }
}

function withPlace(adapter: AdapterName): AdapterName {
  const { physical } = adapter;
  if (physical === null || physical.pciAddress === null) return adapter;
  return { ...adapter, physical: { ...physical, place: readPciPlace(physical.pciAddress) } };
}

/** Why there are fewer devices than adapters. */
export function describeHidden(hidden: readonly string[], problem = "is not at work"): string {
  const names = [...new Set(hidden)].join(", ");
  return `${hidden.length} more have a name like another's, ${names}; telling them apart takes the device layer, which ${problem}`;
}

async function listAll(identify: boolean): Promise<AdapterList> {
  chooseLavapipeThreads();
  if (identify || layerReason(process.env, readMachine()) !== null) switchLayerOn();
  let names = await askDawn();
  if (ambiguousNames(names).length > 0 && !isLayerOn()) {
    switchLayerOn();
    names = await askDawn();
  }
  const hidden = ambiguousNames(names);
  const adapters = names
    .filter((_, index) => !hidden.includes(index))
    .map((name) => withPlace(parseAdapterName(name)))
    .sort((a, b) => slowness(a) - slowness(b));
  const hasTags = adapters.some(({ physical }) => physical !== null);
  if (isLayerOn() && adapters.length > 0 && !hasTags) giveLayerUp();
  const problem = layerProblem();
  const hiddenNames = hidden.flatMap((index) => names[index] ?? []);
  if (hidden.length > 0) createLogger("devices").warn(describeHidden(hiddenNames, problem));
  return { adapters, hidden: hiddenNames, layerProblem: problem };
}

/** A list and what it was made under, kept since asking Dawn takes a new instance of every driver. */
interface KnownList {
  readonly environment: string;
  readonly hasLayer: boolean;
  readonly list: AdapterList;
}

/** A thread is handed what the main thread found; so all number the devices alike, and ask once. */
const SHARED_KEY = "tandem adapters";

let known = isMainThread ? undefined : (getEnvironmentData(SHARED_KEY) as KnownList | undefined);

function environmentKey({ env }: NodeJS.Process): string {
  const { VK_ICD_FILENAMES, VK_DRIVER_FILES, TANDEM_DEVICE_LAYER } = env;
  return [VK_ICD_FILENAMES, VK_DRIVER_FILES, TANDEM_DEVICE_LAYER].join("|");
}

async function listOnce(identify: boolean): Promise<AdapterList> {
  const environment = environmentKey(process);
  const canGain = identify && layerProblem() === undefined; // from a new list, by switching the layer on
  if (known?.environment === environment && (known.hasLayer || !canGain)) return known.list;
  const list = await listAll(identify);
  keep({ environment, hasLayer: isLayerOn(), list });
  return list;
}

function keep(list: KnownList): void {
  known = list;
  if (isMainThread) setEnvironmentData(SHARED_KEY, list);
}

/** Takes an adapter that Dawn names but does not open off the list, so that numbers stay the same for all. */
export function forgetAdapter(selector: string): void {
  if (known === undefined) return;
  const adapters = known.list.adapters.filter((adapter) => adapter.selector !== selector);
  keep({ ...known, list: { ...known.list, adapters } });
}

/** The machine's adapters by the drivers' names, those that TANDEM_VISIBLE_DEVICES leaves out as well. */
export async function adapterNames(): Promise<readonly string[]> {
  return (await listOnce(false)).adapters.map(({ name }) => name);
}

/** The adapters that Tandem may use. */
export async function listAdapters({ identify = false }: ListOptions = {}): Promise<AdapterList> {
  const visible = process.env[VISIBLE_DEVICES_VARIABLE];
  const all = await listOnce(identify || needsIdentity(visible));
  if (identify && all.layerProblem !== undefined && all.hidden.length === 0) {
    const problem = `no UUIDs and PCI addresses: they take the device layer, which ${all.layerProblem}`;
    createLogger("devices").info(problem);
  }
  return { ...all, adapters: visibleAdapters(visible, all.adapters, all.layerProblem) };
}
