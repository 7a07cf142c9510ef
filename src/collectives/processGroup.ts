/** Ranks that take part in the same collectives, as one of them sees it. */
import type { GroupKind } from "./parallelGrid.ts";
import { GROUP_KINDS } from "./parallelGrid.ts";
import { GroupTransport } from "./transport/groupTransport.ts";
import type { Transport } from "./transport/transport.ts";

export interface ProcessGroup {
  /** A GroupKind, or what a subgroup was called. */
  readonly name: string;
  /** Sets this group's tags and progress apart from those of the rank's other groups. */
  readonly namespace: number;
  /** World ranks, in group order. */
  readonly ranks: readonly number[];
  readonly rankInGroup: number;
  /** Numbered by rank in group. */
  readonly transport: Transport;
}

/** Groups of one kind never share a rank, so a kind needs one namespace only. */
export function createGroup(
  world: Transport,
  name: string,
  ranks: readonly number[],
  namespace: number,
): ProcessGroup {
  const transport = new GroupTransport(world, ranks, namespace);
  return { name, namespace, ranks, rankInGroup: transport.rank, transport };
}

/** All ranks of a transport. */
export function worldGroup(world: Transport): ProcessGroup {
  return createGroup(world, "world", world.worldRanks, namespaceOf("world"));
}

export function namespaceOf(kind: GroupKind): number {
  return GROUP_KINDS.indexOf(kind);
}
