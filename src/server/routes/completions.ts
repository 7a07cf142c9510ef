/** POST /v1/completions */
import type { Context } from "hono";
import { CompletionChoiceWriter } from "../api/completionChoice.ts";
import { type CompletionBody, completionBody } from "../api/completionSchema.ts";
import {
  collectChoices,
  type Generation,
  type GenerationSpec,
  startGeneration,
  type Usage,
  usageOf,
} from "../api/generation.ts";
import { checkContext, notSupportedYet, refuseUnsupported } from "../api/sampling.ts";
import { logFailure, type ServerContext, servedModel, tokenizerOf } from "../context.ts";
import { badRequest } from "../http/apiError.ts";
import { readJsonBody } from "../http/jsonBody.ts";
import { sseResponse } from "../http/sse.ts";
import { answerHead, type AnswerHead } from "./answerHead.ts";

/** OpenAI's default, which clients rely on. */
const DEFAULT_MAX_TOKENS = 16;

/** A body that was understood. */
interface CompletionJob {
  readonly body: CompletionBody;
  readonly prompts: readonly (readonly number[])[];
  readonly n: number;
  readonly maxTokens: number;
  /** One a choice. */
  readonly writers: readonly CompletionChoiceWriter[];
}

/** The handler. */
export async function completions(server: ServerContext, { req }: Context): Promise<Response> {
  const body = await readJsonBody(req.raw, completionBody, server.options.maxRequestBytes);
  const head = answerHead("cmpl", "text_completion", servedModel(server, body.model));
  const job = readJob(server, body);
  if (job.maxTokens === 0 && typeof body.logprobs !== "number") {
    return Response.json(echoOnly(job, head));
  }
  const generation = await startGeneration(server, specOf(job), req.raw.signal);
  if (body.stream !== true) return Response.json(await wholeAnswer(job, generation, head));
  return sseResponse(streamAnswer(job, generation, head), {
    onCancel: () => {
      generation.stop();
    },
    onError: (error) => {
      logFailure(server, head.id, error);
    },
  });
}

function readJob(server: ServerContext, body: CompletionBody): CompletionJob {
  const n = body.n ?? 1;
  if ((body.best_of ?? n) !== n) throw notSupportedYet("best_of");
  if ((body.suffix ?? "") !== "") throw notSupportedYet("suffix");
  refuseUnsupported(body);
  const prompts = encodePrompts(server, body);
  const maxTokens = body.max_tokens ?? DEFAULT_MAX_TOKENS;
  if (maxTokens === 0 && body.echo !== true) {
    throw badRequest("max_tokens: expected at least 1 unless echo is true.", "max_tokens");
  }
  const { limits } = server.replicas.model.executor;
  for (const { length } of prompts) checkContext(length, Math.max(1, maxTokens), limits, "prompt");
  return { body, prompts, n, maxTokens, writers: choiceWriters(server, body, prompts) };
}

function choiceWriters(
  server: ServerContext,
  body: CompletionBody,
  prompts: readonly (readonly number[])[],
): CompletionChoiceWriter[] {
  const n = body.n ?? 1;
  const logprobsBy = typeof body.logprobs === "number" ? tokenizerOf(server) : null;
  const texts = promptList(body);
  const echoOf = (prompt: number): string => {
    const text = texts[prompt];
    return typeof text === "string" ? text : tokenizerOf(server).decode(prompts[prompt] ?? []);
  };
  return prompts.flatMap((promptTokenIds, prompt) =>
    Array.from({ length: n }, (_, i) => {
      const index = prompt * n + i;
      const echo = body.echo === true ? echoOf(prompt) : null;
      const isPromptOnly = body.max_tokens === 0;
      return new CompletionChoiceWriter({ index, echo, promptTokenIds, logprobsBy, isPromptOnly });
    }),
  );
}

type PromptGroup = Exclude<CompletionBody["prompt"], string | number[]>;

/** Every form of `prompt` as a list of prompts. */
function promptList({ prompt }: CompletionBody): (string | number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" ? [prompt as number[]] : (prompt as PromptGroup);
}

function encodePrompts(server: ServerContext, body: CompletionBody): number[][] {
  const addSpecialTokens = body.add_special_tokens ?? true;
  return promptList(body).map((prompt) =>
    typeof prompt === "string" ? tokenizerOf(server).encode(prompt, { addSpecialTokens }) : prompt,
  );
}

function specOf({ body, prompts, n, maxTokens }: CompletionJob): GenerationSpec {
  const logprobs = body.logprobs ?? undefined;
  return {
    prompts,
    n,
    fields: body,
    format: body.response_format,
    maxTokens: Math.max(1, maxTokens),
    logprobs,
    promptLogprobs: body.echo === true ? logprobs : undefined,
  };
}

/** max_tokens 0 with echo: the prompt comes back, and nothing has to run. */
function echoOnly({ prompts, writers }: CompletionJob, head: AnswerHead): object {
  const choices = writers.map((writer) => ({ ...writer.write([]), finish_reason: "length" }));
  const numPromptTokens = prompts.reduce((sum, { length }) => sum + length, 0);
  return { ...head, choices, usage: usageOf(numPromptTokens, 0, 0) };
}

/** A token that only brought the prompt's log-probabilities is not the client's. */
function usage({ maxTokens }: CompletionJob, generation: Generation): Usage {
  const used = generation.usage();
  if (maxTokens > 0) return used;
  return usageOf(used.prompt_tokens, 0, used.prompt_tokens_details.cached_tokens);
}

async function wholeAnswer(
  job: CompletionJob,
  generation: Generation,
  head: AnswerHead,
): Promise<object> {
  const outputs = await collectChoices(generation, job.writers.length);
  const choices = job.writers.map((writer, index) => writer.write(outputs[index] ?? []));
  return { ...head, choices, usage: usage(job, generation) };
}

async function* streamAnswer(
  job: CompletionJob,
  generation: Generation,
  head: AnswerHead,
): AsyncGenerator<object, void, undefined> {
  for await (const { choiceIndex, output } of generation.outputs) {
    // One chunk a token, even without text: clients measure by it.
    const choice = job.writers[choiceIndex]?.write([output]);
    yield { ...head, choices: [choice] };
  }
  if (job.body.stream_options?.include_usage === true) {
    yield { ...head, choices: [], usage: usage(job, generation) };
  }
}
