/** Starts all completions of one request, and reads them together. */
import type { EngineRequest } from "../../runtime/engine.ts";
import type { FinishReason, RequestOutput } from "../../runtime/request.ts";
import type { SamplingOptions } from "../../runtime/samplingParams.ts";
import type { ServerContext } from "../context.ts";
import { badRequest, clientGone, unavailable } from "../http/apiError.ts";
import type { Submission } from "../replicas/replicaSet.ts";
import { type ChoiceOutput, mergeChoices } from "./choices.ts";
import type { ResponseFormat, SamplingFields } from "./fields.ts";
import type { GrammarFactory, TokenConstraint } from "./grammar.ts";
import { samplingOptions, seedOfChoice } from "./sampling.ts";

/** What to generate: every prompt `n` times. */
export interface GenerationSpec {
  readonly prompts: readonly (readonly number[])[];
  readonly n: number;
  readonly fields: SamplingFields;
  readonly format: ResponseFormat | null | undefined;
  /** Undefined: as many as the context leaves. */
  readonly maxTokens: number | undefined;
  /** Likeliest tokens to report; undefined reports no log-probabilities. */
  readonly logprobs?: number | undefined;
  readonly promptLogprobs?: number | undefined;
}

export interface Generation {
  /** Choice i of prompt p is choiceIndex p * n + i. */
  readonly outputs: AsyncGenerator<ChoiceOutput, void, undefined>;
  /** Complete once the outputs ended. */
  usage(): Usage;
  /** Ends every completion at once. */
  stop(): void;
}

/** OpenAI's `usage`. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

export function usageOf(numPrompt: number, numCompletion: number, numCached: number): Usage {
  return {
    prompt_tokens: numPrompt,
    completion_tokens: numCompletion,
    total_tokens: numPrompt + numCompletion,
    prompt_tokens_details: { cached_tokens: numCached },
  };
}

/** Throws before anything runs if the request cannot be taken; `signal` is the client's leaving. */
export async function startGeneration(
  { replicas, grammars }: ServerContext,
  spec: GenerationSpec,
  signal: AbortSignal,
): Promise<Generation> {
  const { prompts, n } = spec;
  const sampling = engineSampling(spec, replicas.model.generation);
  const constraints: TokenConstraint[] = [];
  const controller = new AbortController();
  const stop = (): void => {
    controller.abort();
  };
  controller.signal.addEventListener("abort", () => {
    for (const constraint of constraints) constraint.dispose();
  });
  try {
    if ((spec.format?.type ?? "text") !== "text") {
      if (grammars === null) throw badRequest("This model has no tokenizer.", "response_format");
      constraints.push(...(await constrainAll(await grammars(), spec)));
    }
    replicas.admit(prompts.length * n);
    if (signal.aborted) throw clientGone();
    signal.addEventListener("abort", stop, { once: true });
    const groups = requestGroups(spec, sampling, constraints);
    const taken = groups.map((group) => replicas.submit(group, controller.signal));
    return reading(spec, taken, controller);
  } catch (error) {
    stop();
    throw error;
  }
}

/** A group for each prompt, with a request for each of its choices. */
function requestGroups(
  { prompts, n, fields }: GenerationSpec,
  sampling: SamplingOptions,
  constraints: readonly TokenConstraint[],
): EngineRequest[][] {
  return prompts.map((promptTokenIds, prompt) =>
    Array.from({ length: n }, (_, index): EngineRequest => {
      const allowedTokens = constraints[prompt * n + index]?.allowedTokens;
      return {
        promptTokenIds,
        sampling: { ...sampling, ...seedOfChoice(fields.seed, index) },
        priority: fields.priority ?? 0,
        ...(allowedTokens === undefined ? {} : { allowedTokens }),
      };
    }),
  );
}

/** One constraint a choice. */
async function constrainAll(
  factory: GrammarFactory,
  { prompts, n, format }: GenerationSpec,
): Promise<TokenConstraint[]> {
  const all = Array.from({ length: prompts.length * n }, () => factory.constrain(format));
  return (await Promise.all(all)).filter((constraint) => constraint !== null);
}

function engineSampling(
  { fields, maxTokens, logprobs, promptLogprobs }: GenerationSpec,
  recommended: Parameters<typeof samplingOptions>[1],
): SamplingOptions {
  return { ...samplingOptions(fields, recommended, maxTokens), logprobs, promptLogprobs };
}

function reading(
  { prompts }: GenerationSpec,
  taken: readonly (readonly Submission[])[],
  controller: AbortController,
): Generation {
  let numTokens = 0;
  const onToken = (): void => {
    numTokens += 1;
  };
  const sources = taken.flat().map(({ outputs }) => outputs);
  const numPromptTokens = prompts.reduce((sum, { length }) => sum + length, 0);
  return {
    outputs: readWhole(sources, controller, onToken),
    usage: () => {
      const numCached = taken.reduce((sum, [first]) => sum + (first?.numCachedTokens() ?? 0), 0);
      return usageOf(numPromptTokens, numTokens, numCached);
    },
    stop: () => {
      controller.abort();
    },
  };
}

/** The merged outputs; whatever ends the reading ends what still runs. */
async function* readWhole(
  sources: readonly AsyncIterable<RequestOutput>[],
  controller: AbortController,
  onToken: () => void,
): AsyncGenerator<ChoiceOutput, void, undefined> {
  try {
    for await (const choice of mergeChoices(sources)) {
      if (choice.output.finishReason === "abort") throw aborted(controller.signal);
      if (choice.output.tokenId !== null) onToken();
      yield choice;
    }
  } finally {
    controller.abort();
  }
}

function aborted(signal: AbortSignal): Error {
  if (signal.aborted) return clientGone();
  return unavailable("The server shut down before the completion ended.", "shutting_down", 5);
}

/** The engine's reason as OpenAI's word; null while it goes on. */
export function finishReasonOf(reason: FinishReason): "stop" | "length" | null {
  return reason === "abort" ? null : reason;
}

/** Every choice's outputs to the end; for answers that are not streamed. */
export async function collectChoices(
  { outputs }: Generation,
  numChoices: number,
): Promise<RequestOutput[][]> {
  const choices = Array.from({ length: numChoices }, (): RequestOutput[] => []);
  for await (const { choiceIndex, output } of outputs) choices[choiceIndex]?.push(output);
  return choices;
}
