/**
 * One rank's handle on one group, after vLLM's GroupCoordinator: who is in it, and what they can do
 * together. For 8 ranks as pp 2 x tp 4, on two hosts of four, rank 6 sees
 *
 *   rank  localRank  | tp group [4,5,6,7]: rankInGroup 2, first 4, last 7, next 7, prev 5
 *   6     2          | pp group [2,6]:     rankInGroup 1, first 2, last 6, next 2, prev 2
 *
 * Roots and partners are ranks in the group. `host` works on typed arrays at once, `device` records on
 * tensors; both count one sequence, and with one rank neither does anything.
 */
import { CollectiveError } from "../common/errors.ts";
import type {
  CommunicatorOptions,
  ReduceOptions,
  ReduceScatterOptions,
} from "./communicatorOptions.ts";
import { DeviceCommunicator } from "./deviceCommunicator.ts";
import { HostCommunicator } from "./hostCommunicator.ts";
import { decodeObject, encodeObject } from "./objects.ts";
import { createGroup, type ProcessGroup } from "./processGroup.ts";
import type { TensorDict } from "./tensorDict.ts";
import type { Transport } from "./transport/transport.ts";
import { MAX_GROUPS } from "./watchdog/controlBlock.ts";

/** Namespaces of subgroups, dealt from the top; a rank's groups share one. */
export interface SubgroupNamespaces {
  next: number;
}

interface SplitRequest {
  readonly color: number;
  readonly key: number;
  readonly next: number;
}

export class GroupCoordinator implements ProcessGroup {
  readonly name: string;
  readonly namespace: number;
  readonly ranks: readonly number[];
  readonly rankInGroup: number;
  readonly worldSize: number;
  readonly transport: Transport;
  readonly #world: Transport;
  readonly #options: CommunicatorOptions;
  readonly #namespaces: SubgroupNamespaces;
  #host: HostCommunicator | undefined;
  #device: DeviceCommunicator | undefined;
  #isDestroyed = false;

  constructor(
    world: Transport,
    group: Pick<ProcessGroup, "name" | "ranks" | "namespace">,
    namespaces: SubgroupNamespaces,
    options: CommunicatorOptions,
  ) {
    const { name, ranks, namespace } = group;
    const { rankInGroup, transport } = createGroup(world, name, ranks, namespace);
    this.name = name;
    this.namespace = namespace;
    this.ranks = ranks;
    this.rankInGroup = rankInGroup;
    this.worldSize = ranks.length;
    this.transport = transport;
    this.#world = world;
    this.#options = options;
    this.#namespaces = namespaces;
  }

  // Who ------------------------------------------------------------------------------------------

  /** World rank. */
  get rank(): number {
    return this.#world.rank;
  }

  /** Number of this rank among those of its host. */
  get localRank(): number {
    const { hosts, rank } = this.#world;
    return hosts.slice(0, rank).filter((host) => host === hosts[rank]).length;
  }

  /** World rank of the group's first member. */
  get firstRank(): number {
    return this.ranks[0] ?? 0;
  }

  get lastRank(): number {
    return this.ranks.at(-1) ?? 0;
  }

  get isFirstRank(): boolean {
    return this.rankInGroup === 0;
  }

  get isLastRank(): boolean {
    return this.rankInGroup === this.worldSize - 1;
  }

  /** World rank of the next member, around the end. */
  get nextRank(): number {
    return this.ranks[this.#next] ?? 0;
  }

  get prevRank(): number {
    return this.ranks[this.#prev] ?? 0;
  }

  // Communicators --------------------------------------------------------------------------------

  get host(): HostCommunicator {
    if (this.#isDestroyed) {
      throw new CollectiveError(`${this.name} group: expected a live group, got a destroyed one`);
    }
    this.#host ??= new HostCommunicator(this, this.#options);
    return this.#host;
  }

  get device(): DeviceCommunicator {
    this.#device ??= new DeviceCommunicator(this.host);
    return this.#device;
  }

  // Host operations, at once ---------------------------------------------------------------------

  allReduce(x: Float32Array, options?: ReduceOptions): Promise<Float32Array> {
    return this.host.allReduce(x, options);
  }

  reduceScatter(x: Float32Array, options?: ReduceScatterOptions): Promise<Float32Array> {
    return this.host.reduceScatter(x, options);
  }

  allGather(x: Float32Array): Promise<Float32Array> {
    return this.host.allGather(x);
  }

  allToAll(parts: readonly Uint8Array[]): Promise<Uint8Array[]> {
    return this.host.allToAll(parts);
  }

  broadcast<T extends ArrayBufferView>(x: T, root = 0): Promise<T> {
    return this.host.broadcast(x, root);
  }

  gather(own: Uint8Array, root = 0): Promise<Uint8Array[] | undefined> {
    return this.host.gather(own, root);
  }

  barrier(): Promise<void> {
    return this.host.barrier();
  }

  /** The root's value on every rank; the others give nothing. Values are what JSON can hold. */
  async broadcastObject(value?: unknown, root = 0): Promise<unknown> {
    if (this.worldSize === 1) return value;
    const own = this.rankInGroup === root ? encodeObject(value) : undefined;
    return decodeObject(await this.host.broadcastBytes(own, root));
  }

  /** On the root every rank's value, by rank; undefined elsewhere. */
  async gatherObject(value: unknown, root = 0): Promise<unknown[] | undefined> {
    if (this.worldSize === 1) return [value];
    const parts = await this.host.gather(encodeObject(value), root);
    return parts?.map((part) => decodeObject(part));
  }

  async allGatherObject(value: unknown): Promise<unknown[]> {
    if (this.worldSize === 1) return [value];
    const parts = await this.host.allGatherBytes(encodeObject(value));
    return parts.map((part) => decodeObject(part));
  }

  async sendObject(value: unknown, to: number): Promise<void> {
    await this.host.send(to, encodeObject(value));
  }

  async recvObject(from: number): Promise<unknown> {
    return decodeObject(await this.host.recvBytes(from));
  }

  /** To the next rank, unless `to` says otherwise. */
  sendTensorDict(dict: TensorDict, to = this.#next): Promise<void> {
    return this.host.sendTensorDict(to, dict);
  }

  /** From the previous rank, unless `from` says otherwise. */
  recvTensorDict(from = this.#prev): Promise<TensorDict> {
    return this.host.recvTensorDict(from);
  }

  /** The root's dict on every rank; the others give nothing. */
  broadcastTensorDict(dict?: TensorDict, root = 0): Promise<TensorDict> {
    return this.host.broadcastTensorDict(dict, root);
  }

  // Subgroups ------------------------------------------------------------------------------------

  /**
   * Cuts this group: ranks that give the same color form a group, ordered by key. Every member calls
   * it; a negative color joins none and gets undefined.
   */
  async split(
    color: number,
    key = this.rankInGroup,
    name = `${this.name}/${color}`,
  ): Promise<GroupCoordinator | undefined> {
    const request: SplitRequest = { color, key, next: this.#namespaces.next };
    const requests = (await this.allGatherObject(request)) as SplitRequest[];
    // Groups of one split share no rank, so one namespace serves them all; all members agree on it.
    const namespace = Math.min(...requests.map(({ next }) => next));
    this.#namespaces.next = namespace - 1;
    if (namespace < MAX_GROUPS / 2) {
      throw new CollectiveError(
        `${name}: expected at most ${MAX_GROUPS / 2} splits in the life of a world, got one more; ` +
          "keep the groups and reuse them",
      );
    }
    if (color < 0) return undefined;
    const members = [...requests.entries()]
      .filter(([, request]) => request.color === color)
      .sort(([a, left], [b, right]) => left.key - right.key || a - b)
      .map(([member]) => this.ranks[member] ?? 0);
    const group = { name, ranks: members, namespace };
    return new GroupCoordinator(this.#world, group, this.#namespaces, this.#options);
  }

  /** Later calls fail; the transport stays. */
  destroy(): void {
    this.#isDestroyed = true;
    this.#host = undefined;
    this.#device = undefined;
  }

  get #next(): number {
    return (this.rankInGroup + 1) % this.worldSize;
  }

  get #prev(): number {
    return (this.rankInGroup + this.worldSize - 1) % this.worldSize;
  }
}
