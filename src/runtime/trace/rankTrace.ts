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

  /** Follows one step from here to its output. */
  step(plan: StepPlan, output: Promise<unknown>, microBatch: number): StepTrace {
    const args = { step: plan.stepIndex };
    const gpu = this.#gpu?.begin(args, trackName("GPU", microBatch));
    const step = new StepTrace(this.tracer, plan, { microBatch, args, gpu });
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

/** One step of one rank. */
export class StepTrace {
  /** The timer of its replay; undefined where the adapter has no timestamps. */
  readonly timer: GpuTraceRun | undefined;
  readonly #tracer: Tracer;
  readonly #plan: StepPlan;
  readonly #parts: StepParts;
  readonly #beginMs = performance.now();

  constructor(tracer: Tracer, plan: StepPlan, parts: StepParts) {
    this.#tracer = tracer;
    this.#plan = plan;
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
    const { stepIndex, sequences } = this.#plan;
    const args = {
      ...this.#parts.args,
      sequences: sequences.length,
      tokens: numTokensOf(this.#plan),
    };
    const track = trackName("steps", this.#parts.microBatch);
    this.#tracer.span(track, `step ${stepIndex}`, this.#beginMs, { args });
  };
}
