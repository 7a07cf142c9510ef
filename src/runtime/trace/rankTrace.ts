/** What one rank writes into a trace: its loading, its steps, and all that happens inside them. */
import type { TraceArgs, TraceProcess } from "../../common/trace.ts";
import { Tracer } from "../../common/trace.ts";
import type { Device } from "../../device/device.ts";
import { GpuTrace, type GpuTraceRun } from "../../device/gpuTrace.ts";
import type { OnSpan } from "../../device/replayWatch.ts";
import type { StepPlan } from "../stepPlan.ts";
import { numTokensOf } from "../stepPlan.ts";
import { trackName } from "./tracks.ts";

export class RankTrace {
  readonly tracer: Tracer;
  readonly #steps = new Set<Promise<unknown>>();
  #gpu: GpuTrace | undefined;

  constructor(rank: number) {
    this.tracer = new Tracer(`rank ${rank}`);
  }

  /** From now on launches are timed too, if the device has timestamps. */
  attach(device: Device): void {
    if (device.info.hasTimestamps) this.#gpu = new GpuTrace(device, this.tracer);
  }

  /** A stage of loading that has just ended. */
  loaded(stage: string, beginMs: number): void {
    this.tracer.span("load", stage, beginMs);
  }

  /** Follows one step, or a burst of them, from here to the output. */
  step(plans: readonly StepPlan[], output: Promise<unknown>, microBatch: number): StepTrace {
    const args = { step: plans[0]?.stepIndex ?? -1 };
    const gpu = this.#gpu?.begin(args, trackName("GPU", microBatch));
    const step = new StepTrace(this.tracer, plans, { microBatch, args, gpu });
    const ended = output.then(step.ended, () => undefined);
    this.#steps.add(ended);
    void ended.then(() => this.#steps.delete(ended));
    return step;
  }

  /** All spans, once the steps under way have their outputs. */
  async process(): Promise<TraceProcess> {
    await Promise.all(this.#steps);
    await this.#gpu?.drain();
    return this.tracer.process();
  }

  destroy(): void {
    this.#gpu?.destroy();
  }
}

interface StepParts {
  readonly microBatch: number;
  readonly args: TraceArgs;
  readonly gpu: GpuTraceRun | undefined;
}

/** One step of one rank, or a burst of them. */
export class StepTrace {
  /** The timer of its replay; undefined where the adapter has no timestamps. */
  readonly timer: GpuTraceRun | undefined;
  readonly #tracer: Tracer;
  readonly #plans: readonly StepPlan[];
  readonly #parts: StepParts;
  readonly #beginMs = performance.now();

  constructor(tracer: Tracer, plans: readonly StepPlan[], parts: StepParts) {
    this.#tracer = tracer;
    this.#plans = plans;
    this.#parts = parts;
    this.timer = parts.gpu;
  }

  /** What the replay and the runner report. */
  readonly onSpan: OnSpan = (track, name, beginMs) => {
    const { microBatch, args } = this.#parts;
    this.#tracer.span(trackName(track, microBatch), name, beginMs, { args });
    if (name === "submit") this.timer?.submitted(beginMs);
  };

  /** The replay is over, well or not. */
  replayed(): void {
    this.timer?.finish();
  }

  /** Its tokens are where they belong. */
  readonly ended = (): void => {
    const [first] = this.#plans;
    const last = this.#plans.at(-1);
    if (first === undefined || last === undefined) return;
    const tokens = this.#plans.reduce((sum, plan) => sum + numTokensOf(plan), 0);
    const args = { ...this.#parts.args, sequences: first.sequences.length, tokens };
    const track = trackName("steps", this.#parts.microBatch);
    const name =
      first === last ? `step ${first.stepIndex}` : `steps ${first.stepIndex} to ${last.stepIndex}`;
    this.#tracer.span(track, name, this.#beginMs, { args });
  };
}
