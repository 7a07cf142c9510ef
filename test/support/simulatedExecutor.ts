/** An Executor over SimulatedModel that answers later, in order, and can be told to fail. */
import type { Executor, ExecutorLimits } from "../../src/runtime/executor/executor.ts";
import type { StepOutput, StepPlan } from "../../src/runtime/stepPlan.ts";
import type { TextCodec } from "../../src/runtime/textCodec.ts";
import { PlanChecker } from "./planChecker.ts";
import { SimulatedModel } from "./simulatedModel.ts";

/** Where it goes wrong. */
export interface SimulatedFaults {
  /** Step that rejects with this error. */
  readonly failAtStep?: number;
  readonly error?: unknown;
  /** Throw instead of rejecting. */
  readonly throws?: boolean;
  /** Change an output before it is given back. */
  readonly corrupt?: (output: StepOutput) => StepOutput;
  /** Awaited before each step runs, so a test can hold the model at a step of its choice. */
  readonly beforeStep?: () => Promise<void>;
}

/** Takes the event loop's turns that real ranks would take; checks each plan as it comes. */
export class SimulatedExecutor implements Executor {
  readonly limits: ExecutorLimits;
  readonly checker: PlanChecker;
  readonly #model: SimulatedModel;
  readonly #faults: SimulatedFaults;
  #previous: Promise<unknown> = Promise.resolve();
  numSteps = 0;
  cacheEpoch = 0;
  isShutDown = false;
  #isDead = false;
  readonly #listeners: ((error: Error) => void)[] = [];

  constructor(limits: ExecutorLimits, faults: SimulatedFaults = {}) {
    this.limits = limits;
    this.checker = new PlanChecker(limits);
    this.#model = new SimulatedModel(limits);
    this.#faults = faults;
  }

  execute(plan: StepPlan): Promise<StepOutput> {
    const { failAtStep, throws, error } = this.#faults;
    if (throws === true && plan.stepIndex === failAtStep) throw error as Error;
    this.checker.planned(plan);
    const output = this.#previous.then(() => this.#run(plan));
    this.#previous = output;
    return output;
  }

  onFailure(listener: (error: Error) => void): void {
    this.#listeners.push(listener);
  }

  /** A rank dies, whether or not a plan runs; plans in flight are never answered. */
  die(error: Error): void {
    this.#isDead = true;
    for (const listener of this.#listeners) listener(error);
  }

  shutdown(): Promise<void> {
    this.isShutDown = true;
    return Promise.resolve();
  }

  async #run(plan: StepPlan): Promise<StepOutput> {
    this.numSteps += 1;
    await new Promise((resolve) => setImmediate(resolve));
    await this.#faults.beforeStep?.();
    if (this.#isDead) await new Promise(() => undefined);
    if (plan.stepIndex === this.#faults.failAtStep) throw this.#faults.error as Error;
    const output = this.#model.run(plan);
    this.checker.returned();
    return this.#faults.corrupt?.(output) ?? output;
  }
}

/** Token 0 ends; token n is the n-th letter. The decoder holds one letter back, as real ones may. */
export const letterCodec: TextCodec = {
  eosTokenIds: [0],
  encode: (text) => Array.from(text, (letter) => letter.charCodeAt(0) - 96),
  streamDecoder: () => {
    let held = "";
    return {
      push: (tokenId) => {
        const certain = held;
        held = String.fromCharCode(96 + tokenId);
        return certain;
      },
      end: () => held,
    };
  },
};
