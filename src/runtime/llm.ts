/** The front door: text or token ids in, completions out. */
import { Engine, type EngineOptions } from "./engine.ts";
import type { Executor } from "./executor/executor.ts";
import type { Completion } from "./request.ts";
import type { RequestStream } from "./requestStream.ts";
import type { SamplingOptions } from "./samplingParams.ts";
import type { TextCodec } from "./textCodec.ts";

/** Text, or token ids that are taken as they are. */
export type Prompt = string | readonly number[];

/** A loaded model. */
export class LLM {
  /** For many requests with names, metrics and aborts. */
  readonly engine: Engine;
  readonly #codec: TextCodec;

  constructor(executor: Executor, codec: TextCodec, options: EngineOptions = {}) {
    this.engine = new Engine(executor, codec, options);
    this.#codec = codec;
  }

  /** Streams one completion: `for await (const { text } of llm.generate("Once")) …` */
  generate(prompt: Prompt, sampling: SamplingOptions = {}): RequestStream {
    const promptTokenIds = typeof prompt === "string" ? this.#codec.encode(prompt) : prompt;
    return this.engine.addRequest({ promptTokenIds, sampling });
  }

  /** Completes all prompts, batched, in their order. If one cannot run, none does. */
  async generateAll(
    prompts: readonly Prompt[],
    sampling: SamplingOptions = {},
  ): Promise<Completion[]> {
    const streams: RequestStream[] = [];
    try {
      for (const prompt of prompts) streams.push(this.generate(prompt, sampling));
    } catch (error) {
      for (const { requestId } of streams) this.engine.abort(requestId);
      throw error;
    }
    return Promise.all(streams.map((stream) => stream.collect()));
  }

  /** Stops the executor; completions that still run end with `abort`. */
  shutdown(): Promise<void> {
    return this.engine.shutdown();
  }
}
