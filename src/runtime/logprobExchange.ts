/**
 * Log-probabilities of sampled tokens. Only steps with rows that ask for them pay, and the step waits:
 * each rank maps its logits of all samples, 4 bytes x numSamples x its vocabulary, sends the rows that
 * ask to the picking rank, and that one takes 2 passes over each whole row in f64, about a millisecond a
 * row of 128k tokens.
 */
import type { Communicator } from "../collectives/communicator.ts";
import type { Tensor } from "../device/device.ts";
import type { HostOpIo } from "../device/launch.ts";
import { liveBytes } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { type LogprobRow, logprobRow, tokenLogprobs } from "./logprobs.ts";
import type { PromptRow } from "./promptRows.ts";
import type { ScheduledSequence, StepOutput, TokenLogprobs } from "./stepPlan.ts";

/** A step's log-probabilities once its tokens are known. */
export type LogprobsOf = (tokenIds: Uint32Array) => Pick<StepOutput, "logprobs" | "promptLogprobs">;

export class LogprobExchange {
  readonly #tp: Communicator;
  readonly #root: number; // the tp rank that picks
  #wanted: readonly (number | undefined)[] = []; // numLogprobs by row of the step under way
  #prompt: readonly PromptRow[] = []; // the last of these rows
  #rows = new Map<number, LogprobRow>(); // by sample, on the picking rank

  constructor(tp: Communicator, root: number) {
    this.#tp = tp;
    this.#root = root;
  }

  /** Notes what the rows of a step ask for, samples and then prompt tokens; returns how many do. */
  fill(
    sampled: readonly Pick<ScheduledSequence, "numLogprobs">[],
    prompt: readonly PromptRow[],
  ): number {
    this.#wanted = [...sampled, ...prompt].map(({ numLogprobs }) => numLogprobs);
    this.#prompt = prompt;
    return this.#asking().length;
  }

  /** Records the way of raw logits [maxSamples, vocab of this rank] to the picking rank. */
  record(rec: Recorder, logits: Tensor): void {
    rec.hostOp({
      label: "raw logits",
      downloads: [logits],
      downloadBytes: (live) => liveBytes(logits, live.numSamples),
      isNeeded: (live) => live.numLogprobRows > 0,
      run: (io) => this.#collect(io, liveBytes(logits, 1)),
    });
  }

  /** For the step whose launches were submitted last; undefined if none of its samples asks. */
  take(): LogprobsOf | undefined {
    if (this.#asking().length === 0) return undefined;
    const [rows, prompt] = [this.#rows, this.#prompt];
    const at = (index: number, tokenId: number): TokenLogprobs | null => {
      const row = rows.get(index);
      return row === undefined ? null : tokenLogprobs(row, tokenId);
    };
    return (tokenIds) => {
      const logprobs = Array.from(tokenIds, (tokenId, sample) => at(sample, tokenId));
      if (prompt.length === 0) return { logprobs };
      const promptLogprobs: TokenLogprobs[][] = [];
      for (const [i, { targetTokenId, part }] of prompt.entries()) {
        const found = at(tokenIds.length + i, targetTokenId);
        if (found !== null) (promptLogprobs[part] ??= []).push(found);
      }
      return { logprobs, promptLogprobs };
    };
  }

  #asking(): number[] {
    return this.#wanted.flatMap((count, sample) => (count === undefined ? [] : [sample]));
  }

  async #collect(io: HostOpIo, rowBytes: number): Promise<void> {
    const asking = this.#asking();
    const mapped = await io.download(0);
    const slices = new Uint8Array(asking.length * rowBytes);
    for (const [i, sample] of asking.entries()) {
      slices.set(mapped.subarray(sample * rowBytes, (sample + 1) * rowBytes), i * rowBytes);
    }
    const isAlone = this.#tp.worldSize === 1;
    const parts = isAlone ? [slices] : await this.#tp.gatherBytes(slices, this.#root);
    if (parts === undefined) return;
    this.#rows = new Map(
      asking.map((sample, i) => {
        const logits = wholeRow(parts, i, asking.length);
        return [sample, logprobRow(logits, this.#wanted[sample] ?? 0)];
      }),
    );
  }
}

/** Each part holds a rank's slice of every row; slices lie side by side in a whole row. */
function wholeRow(parts: readonly Uint8Array[], row: number, numRows: number): Float32Array {
  const slices = parts.map((part) => {
    const sliceBytes = part.byteLength / numRows;
    return part.subarray(row * sliceBytes, (row + 1) * sliceBytes);
  });
  const bytes = new Uint8Array(slices.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let column = 0;
  for (const slice of slices) {
    bytes.set(slice, column);
    column += slice.byteLength;
  }
  return new Float32Array(bytes.buffer);
}
