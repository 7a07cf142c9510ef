/**
 * Which devices work together: the ranks of a tensor-parallel group exchange data twice a layer, so
 * they go on GPUs that are near each other; stages of a pipeline exchange one residual a step.
 */
import type { PhysicalDevice } from "../device/physicalDevice.ts";

/** What a distance is made of; null where nothing is known of a device. */
export type Location = Pick<PhysicalDevice, "pciAddress" | "place"> | null;

/** As nvidia-smi's topology matrix names them, nearest first. */
export type Link = "same" | "PIX" | "PXB" | "PHB" | "NODE" | "SYS";

/**
 * Any rising numbers do for a pair; these make one far pair worse than several less near ones. One GPU
 * twice (by two drivers) is no gain at all.
 */
const COSTS: Readonly<Record<Link, number>> = {
  PIX: 1,
  PXB: 2,
  PHB: 4,
  NODE: 8,
  SYS: 32,
  same: 64,
};

/** What a path between two devices crosses. */
export function linkBetween(a: Location, b: Location): Link {
  const [place, otherPlace] = [a?.place ?? null, b?.place ?? null];
  if (place === null || otherPlace === null) return "SYS";
  if (a?.pciAddress === b?.pciAddress) return "same";
  const [path, other] = [place.path, otherPlace.path];
  const firstApart = path.findIndex((part, depth) => part !== other[depth]);
  // path: root complex, root port, then a switch's upstream and downstream ports, then the device
  if (firstApart >= 2) return Math.max(path.length, other.length) - firstApart <= 2 ? "PIX" : "PXB";
  if (firstApart === 1) return "PHB";
  const { numaNode } = place;
  return numaNode !== null && numaNode === otherPlace.numaNode ? "NODE" : "SYS";
}

interface Group {
  readonly members: readonly number[];
  readonly cost: number;
}

/** The `size - 1` nearest to `seed`, with it; of equally near ones, the first. */
function groupAround(
  seed: number,
  free: readonly number[],
  size: number,
  costs: (a: number, b: number) => number,
): Group {
  const nearest = free
    .filter((index) => index !== seed)
    .sort((a, b) => costs(seed, a) - costs(seed, b) || a - b);
  const members = [seed, ...nearest.slice(0, size - 1)].sort((a, b) => a - b);
  let cost = 0;
  for (const [at, a] of members.entries()) {
    for (const b of members.slice(at + 1)) cost += costs(a, b);
  }
  return { members, cost };
}

/**
 * Reorders positions in `locations` so that each run of `groupSize` holds near devices; the cheapest
 * group comes first, and the given order stays where nothing is nearer than anything else.
 */
export function groupNear(locations: readonly Location[], groupSize: number): number[] {
  const costs = (a: number, b: number): number =>
    COSTS[linkBetween(locations[a] ?? null, locations[b] ?? null)];
  let free = locations.map((_, index) => index);
  const order: number[] = [];
  while (groupSize > 1 && free.length > groupSize) {
    const groups = free.map((seed) => groupAround(seed, free, groupSize, costs));
    const best = groups.reduce((least, group) => (group.cost < least.cost ? group : least));
    order.push(...best.members);
    free = free.filter((index) => !best.members.includes(index));
  }
  return [...order, ...free];
}
