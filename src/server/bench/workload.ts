/** What a serving benchmark asks for, and when. */
import { UsageError } from "../../common/errors.ts";

/** One request of the benchmark; a prompt is text, or token ids. */
export interface BenchRequest {
  readonly prompt: string | readonly number[];
  readonly outputLength: number;
}

export interface RandomWorkload {
  readonly numPrompts: number;
  readonly inputLength: number;
  readonly outputLength: number;
  /** Tokens at the beginning that all prompts share, for the prefix cache; part of inputLength. */
  readonly prefixLength: number;
  readonly vocabSize: number;
  readonly seed: number;
}

/** Numbers from 0 to 1 (mulberry32): the same seed gives the same benchmark. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Prompts of random token ids: nothing in a dense model's speed depends on them. */
export function randomRequests(workload: RandomWorkload): BenchRequest[] {
  const { numPrompts, inputLength, outputLength, prefixLength, vocabSize, seed } = workload;
  const random = randomNumbers(seed);
  const tokens = (length: number): number[] =>
    Array.from({ length: Math.max(0, length) }, () => Math.floor(random() * vocabSize));
  const prefix = tokens(Math.min(prefixLength, inputLength));
  return Array.from({ length: numPrompts }, () => ({
    prompt: [...prefix, ...tokens(inputLength - prefix.length)],
    outputLength,
  }));
}

/**
 * Prompts of a file, again from its begin when it is short: lines of JSON with `prompt` and perhaps
 * `output_len`, or plain lines of text.
 */
export function datasetRequests(
  text: string,
  numPrompts: number,
  outputLength: number,
): BenchRequest[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const requests = lines.map((line, index) => parseLine(line, index, outputLength));
  const [first] = requests;
  if (first === undefined) {
    throw new UsageError({ what: "--dataset", expected: "a prompt a line", got: "no line" });
  }
  return Array.from({ length: numPrompts }, (_, at) => requests[at % requests.length] ?? first);
}

function parseLine(line: string, index: number, outputLength: number): BenchRequest {
  if (!line.startsWith("{")) return { prompt: line, outputLength };
  try {
    const { prompt, output_len } = JSON.parse(line) as { prompt?: unknown; output_len?: unknown };
    if (typeof prompt === "string") {
      return { prompt, outputLength: typeof output_len === "number" ? output_len : outputLength };
    }
  } catch {
    // said below
  }
  const expected = 'JSON with a "prompt"';
  throw new UsageError({ what: `--dataset line ${index + 1}`, expected, got: line.slice(0, 40) });
}

/** Milliseconds from the start at which requests arrive: a Poisson process; all at 0 for an infinite rate. */
export function arrivalTimesMs(numPrompts: number, ratePerS: number, seed: number): number[] {
  const random = randomNumbers(seed ^ 0x5bd1e995);
  let atMs = 0;
  return Array.from({ length: numPrompts }, () => {
    const arrival = atMs;
    if (Number.isFinite(ratePerS)) atMs += (-Math.log(1 - random()) / ratePerS) * 1000;
    return arrival;
  });
}
