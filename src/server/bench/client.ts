/** Sends the benchmark's requests over HTTP, as any client would, and notes when each token came. */
import { messageOf } from "../../common/errors.ts";
import type { BenchRequest } from "./workload.ts";

/** One request as the client saw it; times in milliseconds since the benchmark began. */
export interface BenchSample {
  readonly sentMs: number;
  /** Arrival of each event with a token. */
  readonly tokenMs: readonly number[];
  readonly endMs: number;
  readonly numPromptTokens: number;
  readonly numTokens: number;
  /** Null if it went well. */
  readonly error: string | null;
}

export interface BenchTarget {
  /** As http://127.0.0.1:8000 */
  readonly url: string;
  readonly model: string;
  readonly apiKey: string | undefined;
}

interface Chunk {
  readonly choices?: readonly unknown[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly error?: { readonly message: string };
}

/** Sends each request at its time, or later while `maxConcurrency` are under way. */
export async function sendAll(
  target: BenchTarget,
  requests: readonly BenchRequest[],
  arrivalsMs: readonly number[],
  maxConcurrency: number,
): Promise<BenchSample[]> {
  const startMs = performance.now();
  const samples: BenchSample[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < requests.length; index = next++) {
      const request = requests[index];
      const waitMs = (arrivalsMs[index] ?? 0) - (performance.now() - startMs);
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (request !== undefined) samples.push(await sendOne(target, request, startMs));
    }
  };
  const numWorkers = Math.min(maxConcurrency, requests.length);
  await Promise.all(Array.from({ length: numWorkers }, work));
  return samples;
}

async function sendOne(
  target: BenchTarget,
  request: BenchRequest,
  startMs: number,
): Promise<BenchSample> {
  const now = (): number => performance.now() - startMs;
  const sentMs = now();
  const tokenMs: number[] = [];
  let [numPromptTokens, numTokens, error]: [number, number, string | null] = [0, 0, null];
  try {
    for await (const chunk of events(await post(target, request))) {
      if (chunk.error !== undefined) throw new Error(chunk.error.message);
      if ((chunk.choices?.length ?? 0) > 0) tokenMs.push(now());
      numPromptTokens = chunk.usage?.prompt_tokens ?? numPromptTokens;
      numTokens = chunk.usage?.completion_tokens ?? numTokens;
    }
  } catch (cause) {
    error = messageOf(cause);
  }
  return { sentMs, tokenMs, endMs: now(), numPromptTokens, numTokens, error };
}

async function post(target: BenchTarget, request: BenchRequest): Promise<Response> {
  const { apiKey } = target;
  const response = await fetch(`${target.url}/v1/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
    },
    body: JSON.stringify({
      model: target.model,
      prompt: request.prompt,
      max_tokens: request.outputLength,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (response.ok) return response;
  throw new Error(`status ${response.status}: ${(await response.text()).slice(0, 200)}`);
}

async function* events(response: Response): AsyncGenerator<Chunk, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body ?? []) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      yield JSON.parse(line.slice("data: ".length)) as Chunk;
    }
  }
}
