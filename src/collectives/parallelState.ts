/**
 * One rank's place in the world and its groups: vLLM's parallel_state as an object that is passed along.
 *
 *   const state = initDistributedEnvironment(transport);
 *   state.initializeModelParallel({ pp: 2, tp: 4 });
 *   await state.getTpGroup().allReduce(x);
 *   state.destroyModelParallel();
 *   state.destroyDistributedEnvironment();
 */
import { CollectiveError } from "../common/errors.ts";
import type { CommunicatorOptions } from "./communicatorOptions.ts";
import { DebugLog } from "./debugLog.ts";
import { GroupCoordinator, type SubgroupNamespaces } from "./groupCoordinator.ts";
import { GROUP_KINDS, type GroupKind, ParallelGrid, type ParallelSizes } from "./parallelGrid.ts";
import { namespaceOf } from "./processGroup.ts";
import type { Transport } from "./transport/transport.ts";
import { MAX_GROUPS } from "./watchdog/controlBlock.ts";
import { FlightRecorder } from "./watchdog/flightRecorder.ts";

/** Groups of one initialisation take a row of namespaces; a row is not used twice. */
const MAX_INITIALISATIONS = Math.floor(MAX_GROUPS / 2 / GROUP_KINDS.length);

export class ParallelState {
  readonly rank: number;
  readonly worldSize: number;
  /** Shared by all groups of the rank. */
  readonly recorder: FlightRecorder;
  readonly #transport: Transport;
  readonly #options: CommunicatorOptions;
  readonly #debug: DebugLog;
  readonly #subgroups: SubgroupNamespaces = { next: MAX_GROUPS - 1 };
  readonly #world: GroupCoordinator;
  readonly #groups = new Map<GroupKind, GroupCoordinator>();
  #grid: ParallelGrid | undefined;
  #numInitialisations = 0;

  /** With `sizes`, the model-parallel groups too. */
  constructor(transport: Transport, sizes?: ParallelSizes, options: CommunicatorOptions = {}) {
    this.rank = transport.rank;
    this.worldSize = transport.worldSize;
    this.recorder = options.recorder ?? new FlightRecorder(transport.rank);
    this.#transport = transport;
    this.#debug = options.debug ?? new DebugLog(transport.rank);
    this.#options = { ...options, recorder: this.recorder, debug: this.#debug };
    this.#world = this.#create("world", transport.worldRanks);
    if (sizes !== undefined) this.initializeModelParallel(sizes);
  }

  /** Every rank calls it with the same sizes, whose product is the number of ranks. */
  initializeModelParallel(sizes: ParallelSizes): void {
    if (this.#grid !== undefined) {
      throw new CollectiveError(
        "initializeModelParallel: expected no groups, got initialised ones; destroyModelParallel() first",
      );
    }
    if (this.#numInitialisations >= MAX_INITIALISATIONS) {
      throw new CollectiveError(
        `initializeModelParallel: expected at most ${MAX_INITIALISATIONS} calls on one transport, got one more`,
      );
    }
    this.#grid = new ParallelGrid(this.worldSize, sizes);
    this.#numInitialisations += 1;
    const at = Object.entries(this.#grid.coordinates(this.rank)).map(
      ([name, index]) => `${name} ${index}`,
    );
    this.#debug.say("INFO", "INIT", () => `of ${this.worldSize} is ${at.join(", ")}`);
  }

  get modelParallelIsInitialized(): boolean {
    return this.#grid !== undefined;
  }

  get grid(): ParallelGrid {
    if (this.#grid !== undefined) return this.#grid;
    throw new CollectiveError(
      "model parallel groups: expected initialised groups, got destroyed ones",
    );
  }

  getWorldGroup(): GroupCoordinator {
    return this.#world;
  }
  getTpGroup(): GroupCoordinator {
    return this.#group("tp");
  }
  getPpGroup(): GroupCoordinator {
    return this.#group("pp");
  }
  getDpGroup(): GroupCoordinator {
    return this.#group("dp");
  }
  getEpGroup(): GroupCoordinator {
    return this.#group("ep");
  }
  getPcpGroup(): GroupCoordinator {
    return this.#group("pcp");
  }
  getDcpGroup(): GroupCoordinator {
    return this.#group("dcp");
  }

  get tensorModelParallelWorldSize(): number {
    return this.getTpGroup().worldSize;
  }
  get tensorModelParallelRank(): number {
    return this.getTpGroup().rankInGroup;
  }

  /** A group of any ranks, by world rank. Every rank of the world calls it; those not named get undefined. */
  newGroup(
    ranks: readonly number[],
    name = `[${ranks.join()}]`,
  ): Promise<GroupCoordinator | undefined> {
    const key = ranks.indexOf(this.rank);
    return this.#world.split(key < 0 ? -1 : 0, key, name);
  }

  /** Leaves the model-parallel groups; the world stays, and others may be initialised. */
  destroyModelParallel(): void {
    for (const group of this.#groups.values()) group.destroy();
    this.#groups.clear();
    this.#grid = undefined;
  }

  /** Leaves everything and closes the transport. */
  destroyDistributedEnvironment(): void {
    this.destroyModelParallel();
    this.#world.destroy();
    this.#transport.close();
  }

  #group(kind: GroupKind): GroupCoordinator {
    let group = this.#groups.get(kind);
    if (group === undefined) {
      group = this.#create(kind, this.grid.groupOf(kind, this.rank));
      this.#groups.set(kind, group);
    }
    return group;
  }

  #create(kind: GroupKind, ranks: readonly number[]): GroupCoordinator {
    const row = Math.max(0, this.#numInitialisations - 1) * GROUP_KINDS.length;
    const namespace = kind === "world" ? namespaceOf(kind) : row + namespaceOf(kind);
    const group = { name: kind, ranks, namespace };
    return new GroupCoordinator(this.#transport, group, this.#subgroups, this.#options);
  }
}

/** vLLM's first call: the world alone. */
export function initDistributedEnvironment(
  transport: Transport,
  options?: CommunicatorOptions,
): ParallelState {
  return new ParallelState(transport, undefined, options);
}

/** Both calls in one: the world, and the groups of the given sizes. */
export function initializeModelParallel(
  transport: Transport,
  sizes: ParallelSizes,
  options?: CommunicatorOptions,
): ParallelState {
  return new ParallelState(transport, sizes, options);
}
