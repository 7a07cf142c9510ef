/**
 * A second group of the same ranks, for collectives of two micro-batches that run at once: each group counts
 * its own operations, so that ranks which come to them in another order still agree, and neither takes the
 * other's messages.
 */
import { CollectiveError } from "../common/errors.ts";
import { GROUP_KINDS } from "./parallelGrid.ts";
import { createGroup, type ProcessGroup } from "./processGroup.ts";
import type { Transport } from "./transport/transport.ts";
import { MAX_GROUPS } from "./watchdog/controlBlock.ts";

/** Kinds that micro-batches use, in the order of their namespaces: the last ones below those of subgroups. */
const KINDS = ["tp", "pp"] as const;
const FIRST_NAMESPACE = MAX_GROUPS / 2 - KINDS.length;

/** How many micro-batches may run at once. */
export const MAX_MICRO_BATCHES = 2;

/** The group itself for micro-batch 0; `world` is the transport of all ranks. */
export function microBatchGroup(
  world: Transport,
  group: ProcessGroup,
  microBatch: number,
): ProcessGroup {
  if (microBatch === 0) return group;
  const kind = KINDS.findIndex((name) => name === group.name);
  const isInitial = group.namespace < GROUP_KINDS.length;
  if (kind < 0 || !isInitial || microBatch >= MAX_MICRO_BATCHES) {
    throw new CollectiveError(
      `micro-batch ${microBatch} of group ${group.name}: expected tp or pp of a world's first ` +
        `initialisation and a number below ${MAX_MICRO_BATCHES}`,
    );
  }
  return createGroup(world, `${group.name}/${microBatch}`, group.ranks, FIRST_NAMESPACE + kind);
}
