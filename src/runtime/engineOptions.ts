/** What an Engine is given, and what it tells. */
import type { Logger } from "../common/logger.ts";
import type { Tracer } from "../common/trace.ts";
import type { AllowedTokens } from "./request.ts";
import type { RequestStream } from "./requestStream.ts";
import type { SamplingOptions } from "./samplingParams.ts";
import type { SchedulerOptions } from "./schedulerLimits.ts";
import type { StepOutput, StepPlan } from "./stepPlan.ts";

/** Settings that have a default. */
export interface EngineOptions {
  readonly log?: Logger;
  readonly scheduler?: SchedulerOptions;
  /** Gets spans of planning, of waiting for each step, and of handing out its tokens. */
  readonly tracer?: Tracer | undefined;
  /** Called after each step, for metrics. */
  readonly onStep?: (plan: StepPlan, output: StepOutput) => void;
  /** Called for each token, with the time since the request's last one, or since its arrival. */
  readonly onToken?: (stream: RequestStream, elapsedMs: number) => void;
  /** Called when a request ended, also by `abort`, but not when it failed. */
  readonly onFinish?: (stream: RequestStream) => void;
  /** Milliseconds; `performance.now` unless a test brings its own. */
  readonly now?: () => number;
}

/** One request, tokenized. */
export interface EngineRequest {
  readonly promptTokenIds: readonly number[];
  readonly sampling?: SamplingOptions;
  /** Unique among the requests that run; one is made up if left out. */
  readonly requestId?: string;
  /** Lower goes first; of equals, the first that came. 0 when left out. */
  readonly priority?: number;
  /**
   * A request with the same prompt: while its prefill is under way this one waits, to take over the full
   * blocks of the prompt.
   */
  readonly leaderId?: string;
  /** Which tokens may come next; see AllowedTokens. */
  readonly allowedTokens?: AllowedTokens;
  /** Begin the text with the prompt's. */
  readonly echo?: boolean;
}
