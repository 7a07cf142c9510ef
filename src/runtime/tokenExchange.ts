/**
 * Sampled tokens on their way: from the rank that picks them to every other rank's lastToken, and to
 * the engine. One rank picks and publishes, never each for itself: devices of different make round
 * differently. Steps do not wait for it; only a step that reads such a token does.
 */
import type { HostCommunicator } from "../collectives/hostCommunicator.ts";
import { CollectiveError } from "../common/errors.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { LogprobsOf } from "./logprobExchange.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";

/** A step's tokens on their way from the GPU. */
interface Sampled {
  readonly tokenIds: Promise<Uint32Array<ArrayBuffer>>;
  readonly logprobsOf: LogprobsOf | undefined;
}

/** On the sampling rank: a plan whose tokens are still on the GPU. */
interface Pending {
  readonly sampled: (sampled: Sampled) => void;
  readonly sent: Promise<StepOutput>;
}

export class TokenExchange {
  readonly #world: HostCommunicator;
  readonly #root: number;
  readonly #pending = new Map<number, Pending>(); // by step
  #device: Device | undefined;
  #lastToken: Tensor | undefined;
  #chain: Promise<unknown> = Promise.resolve(); // transfers in the order of steps, on every rank
  readonly #arrivals = new Map<number, Promise<unknown>>();

  /** `root` is the world rank that samples. */
  constructor(world: HostCommunicator, root: number) {
    this.#world = world;
    this.#root = root;
  }

  get isRoot(): boolean {
    return this.#world.rank === this.#root;
  }

  /** Where arriving tokens go on ranks that do not sample; [maxNumSeqs] u32. */
  attach(device: Device, lastToken: Tensor): void {
    this.#device = device;
    this.#lastToken = lastToken;
  }

  /** Announces a plan, in order. The promise gives its tokens on the sampling rank, null elsewhere. */
  expect(plan: StepPlan): Promise<StepOutput | null> {
    if (this.isRoot) return this.#expectOwn(plan);
    const numSamples = plan.sequences.filter(({ samples }) => samples).length;
    if (numSamples === 0) return Promise.resolve(null);
    const arrival = this.#inOrder(() => this.#receive(plan, numSamples));
    this.#arrivals.set(plan.stepIndex, arrival);
    return arrival.then(() => {
      this.#arrivals.delete(plan.stepIndex);
      return null;
    });
  }

  /** Resolves when lastToken holds the tokens of a step; at once where the GPU wrote them itself. */
  async arrived(stepIndex: number): Promise<void> {
    if (stepIndex >= 0) await this.#arrivals.get(stepIndex); // below 0: no step; see profileStep
  }

  /**
   * On the sampling rank: the tokens of an announced plan, in the order of its samples. Called as plans
   * are replayed, which may be at once; their tokens reach the host in any order (a step without samples
   * has none to wait for), and go on in the order in which plans were announced.
   */
  async publish(
    stepIndex: number,
    tokenIds: Promise<Uint32Array<ArrayBuffer>>,
    logprobsOf?: LogprobsOf,
  ): Promise<void> {
    tokenIds.catch(() => undefined); // reported once it is this plan's turn
    const pending = this.#pending.get(stepIndex);
    if (pending === undefined) throw new CollectiveError("tokens: sampled without a plan");
    this.#pending.delete(stepIndex);
    pending.sampled({ tokenIds, logprobsOf });
    await pending.sent;
  }

  #expectOwn({ stepIndex }: StepPlan): Promise<StepOutput> {
    const { promise, resolve } = Promise.withResolvers<Sampled>();
    const sent = this.#inOrder(async () => {
      const { tokenIds: mapped, logprobsOf } = await promise;
      const tokenIds = await mapped;
      if (tokenIds.length > 0) await this.#world.broadcast(tokenIds, this.#root);
      const logprobs = logprobsOf?.(tokenIds) ?? {};
      return { stepIndex, tokenIds: [...tokenIds], ...logprobs };
    });
    this.#pending.set(stepIndex, { sampled: resolve, sent });
    return sent;
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#chain.then(work);
    this.#chain = mine.catch(() => undefined);
    return mine;
  }

  async #receive({ sequences }: StepPlan, numSamples: number): Promise<void> {
    const tokenIds = await this.#world.broadcast(new Uint32Array(numSamples), this.#root);
    const slots = sequences.filter(({ samples }) => samples).map(({ slot }) => slot);
    for (const [i, slot] of slots.entries()) {
      const bytes = new Uint8Array(tokenIds.buffer, i * 4, 4);
      if (this.#lastToken !== undefined) this.#device?.write(this.#lastToken, bytes, slot * 4);
    }
  }
}
