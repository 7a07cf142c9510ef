/** Groups of ranks, and the object that holds all groups of one rank. No globals: pass it along. */
import { CollectiveError } from "../common/errors.ts";
import { GROUP_KINDS, type GroupKind, ParallelGrid, type ParallelSizes } from "./parallelGrid.ts";
import { GroupTransport } from "./transport/groupTransport.ts";
import type { Transport } from "./transport/transport.ts";

/** Ranks that take part in the same collectives, as one of them sees it. */
export interface ProcessGroup {
  readonly name: GroupKind;
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
  name: GroupKind,
  ranks: readonly number[],
): ProcessGroup {
  const namespace = GROUP_KINDS.indexOf(name);
  const transport = new GroupTransport(world, ranks, namespace);
  return { name, namespace, ranks, rankInGroup: transport.rank, transport };
}

/** All ranks of a transport. */
export function worldGroup(world: Transport): ProcessGroup {
  return createGroup(world, "world", world.worldRanks);
}

/** One rank's place in the grid and its groups; vLLM's parallel_state as an object. */
export class ParallelState {
  readonly grid: ParallelGrid;
  readonly rank: number;
  readonly #transport: Transport;
  readonly #groups = new Map<GroupKind, ProcessGroup>();
  #destroyed = false;

  constructor(transport: Transport, sizes: ParallelSizes) {
    this.grid = new ParallelGrid(transport.worldSize, sizes);
    this.rank = transport.rank;
    this.#transport = transport;
  }

  getWorldGroup(): ProcessGroup {
    return this.#group("world");
  }
  getTpGroup(): ProcessGroup {
    return this.#group("tp");
  }
  getPpGroup(): ProcessGroup {
    return this.#group("pp");
  }
  getDpGroup(): ProcessGroup {
    return this.#group("dp");
  }
  getEpGroup(): ProcessGroup {
    return this.#group("ep");
  }
  getPcpGroup(): ProcessGroup {
    return this.#group("pcp");
  }
  getDcpGroup(): ProcessGroup {
    return this.#group("dcp");
  }

  /** Leaves all groups; the transport is closed with them. */
  destroyModelParallel(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#groups.clear();
    this.#transport.close();
  }

  #group(kind: GroupKind): ProcessGroup {
    if (this.#destroyed) {
      throw new CollectiveError(`${kind} group: expected live groups, got destroyed ones`);
    }
    let group = this.#groups.get(kind);
    if (group === undefined) {
      group = createGroup(this.#transport, kind, this.grid.groupOf(kind, this.rank));
      this.#groups.set(kind, group);
    }
    return group;
  }
}

/** vLLM's name for it: the groups of this rank for the given sizes. */
export function initializeModelParallel(transport: Transport, sizes: ParallelSizes): ParallelState {
  return new ParallelState(transport, sizes);
}
