/** The GPU behind an adapter, as the layer in native/ tells it in the adapter's name. */

/** Vulkan's kinds of device. */
export type PhysicalKind = "discrete" | "integrated" | "virtual" | "cpu" | "other";

const KINDS: readonly PhysicalKind[] = ["discrete", "integrated", "virtual", "cpu", "other"];

/** Plain, cloneable facts of one GPU. */
export interface PhysicalDevice {
  /** 8-4-4-4-12 hexadecimal digits; that of NVIDIA is nvidia-smi's without `GPU-`. */
  readonly uuid: string;
  /** As in /sys/bus/pci/devices, e.g. "0000:3b:00.0"; null for what is not on the bus. */
  readonly pciAddress: string | null;
  /** The largest device-local memory heap. */
  readonly memoryBytes: number;
  readonly kind: PhysicalKind;
  readonly place: PciPlace | null;
}

/** Where the machine has a GPU, from /sys. */
export interface PciPlace {
  /** From the root complex down to the device, e.g. ["pci0000:3a", "0000:3a:01.0", "0000:3b:00.0"]. */
  readonly path: readonly string[];
  /** null where the machine does not say. */
  readonly numaNode: number | null;
  /** The node's cores, e.g. "0-15,32-47"; null where it has all of them. */
  readonly numaCpus: string | null;
}

/** A name that Dawn lists, taken apart. */
export interface AdapterName {
  /** The whole, by which Dawn selects. */
  readonly selector: string;
  /** The driver's part. */
  readonly name: string;
  /** Without its place; null where the layer is not at work. */
  readonly physical: PhysicalDevice | null;
}

/** What deviceLayer.c appends; group 1 is the position that keeps names apart. */
const TAG =
  / \[tandem (-?\d+) uuid=([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}) pci=(\S+) heap=(\d+) type=(\w+)\]$/;

/** Takes a name apart. */
export function parseAdapterName(selector: string): AdapterName {
  const [tag, , uuid = "", pci = "-", heap = "", type] = TAG.exec(selector) ?? [];
  if (tag === undefined) return { selector, name: selector, physical: null };
  const physical: PhysicalDevice = {
    uuid,
    pciAddress: pci === "-" ? null : pci,
    memoryBytes: Number(heap),
    kind: KINDS.find((kind) => kind === type) ?? "other",
    place: null,
  };
  return { selector, name: selector.slice(0, -tag.length), physical };
}

/** Drivers that Tandem does not run on, or that stand in for nothing. */
const UNUSED_BACKENDS: ReadonlySet<string> = new Set(["null", "opengl", "opengles"]);

/** The adapters in Dawn's answer to a name that no adapter has: it lists those that exist. */
export function adaptersInMessage(message: string): string[] {
  return [...message.matchAll(/backend: '(\w+)', name: '([^']*)'/g)]
    .filter(([, backend = ""]) => !UNUSED_BACKENDS.has(backend))
    .map(([, , name = ""]) => name);
}

/**
 * Positions of names by which Dawn would open another adapter: it takes the first whose name contains
 * the text, so "RTX 4070" also stands for "RTX 4070 Ti" where that one comes first.
 */
export function ambiguousNames(selectors: readonly string[]): number[] {
  return selectors.flatMap((name, index) =>
    selectors.findIndex((other) => other.includes(name)) === index ? [] : [index],
  );
}
