/** What Linux says of the machine's GPUs in /sys: how many there are, and where each one sits. */
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { PciPlace } from "./physicalDevice.ts";

const SYS = "/sys";
/** PCI classes of displays (03) and of processing accelerators (12), as AMD's larger ones are. */
const GPU_CLASS = /^0x(03|12)/;

/** An empty text where the file is missing, as everywhere but on Linux. */
function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** GPUs on the PCI bus. */
export function countGpus(root = SYS): number {
  const folder = join(root, "bus/pci/devices");
  return namesIn(folder).filter((name) => GPU_CLASS.test(readText(join(folder, name, "class"))))
    .length;
}

/** NUMA nodes; 1 where the kernel knows of none. */
export function countNumaNodes(root = SYS): number {
  const nodes = namesIn(join(root, "devices/system/node")).filter((name) => /^node\d+$/.test(name));
  return Math.max(1, nodes.length);
}

/** Where a device sits; null where the system does not know the address. */
export function readPciPlace(pciAddress: string, root = SYS): PciPlace | null {
  const link = join(root, "bus/pci/devices", pciAddress);
  if (!existsSync(link)) return null;
  const parts = realpathSync(link).split("/");
  const path = parts.slice(parts.findIndex((part) => part.startsWith("pci")));
  const node = readText(join(link, "numa_node"));
  const numaNode = /^\d+$/.test(node) ? Number(node) : null; // -1: unknown
  const cpus = readText(join(root, `devices/system/node/node${numaNode}/cpulist`));
  const isPart = numaNode !== null && cpus !== "" && countNumaNodes(root) > 1;
  return { path, numaNode, numaCpus: isPart ? cpus : null };
}
