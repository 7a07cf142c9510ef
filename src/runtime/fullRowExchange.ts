/**
 * The way out for rows that 64 candidates a shard do not decide (a wide top-p, a top-k above 64): the
 * picking rank says which, every rank sends its slice of these rows' logits, and the picker samples
 * from the whole. Steps without such rows pass through at the price of a function call.
 */
import type { Communicator } from "../collectives/communicator.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { HostOpIo } from "../device/launch.ts";
import { liveBytes } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { NO_TOKEN } from "../kernels/sampling/candidateLayout.ts";
import { needsFullRow } from "../kernels/sampling/needsFullRow.ts";

/** The rank that picks. */
const ROOT = 0;

export interface FullRowInputs {
  /** The host's copy of the step's sampling rows. */
  readonly samplingRows: Uint32Array;
  /** On the picking rank: candidates of all ranks, [tpSize, maxSamples, 130] u32. */
  readonly lists: Tensor | undefined;
  readonly logits: Tensor; // [maxSamples, vocab of this rank]
}

/** On the picking rank, for sampleFull. */
export interface FullRows {
  readonly fullRows: Tensor; // [maxSamples] u32: row of fullLogits, or NO_TOKEN
  readonly fullLogits: Tensor; // [maxSamples, vocab]
}

export class FullRowExchange {
  readonly #device: Device;
  readonly #tp: Communicator;
  readonly #vocabSize: number;
  #isDirty = true;

  constructor(device: Device, tp: Communicator, vocabSize: number) {
    this.#device = device;
    this.#tp = tp;
    this.#vocabSize = vocabSize;
  }

  /** Records the exchange; the picking rank gets the tensors it fills. */
  record(rec: Recorder, inputs: FullRowInputs): FullRows | undefined {
    const { lists, logits } = inputs;
    const [maxSamples = 0] = logits.shape;
    const full =
      lists === undefined
        ? undefined
        : {
            fullRows: this.#device.empty([maxSamples], "u32", "full rows"),
            fullLogits: this.#device.empty([maxSamples, this.#vocabSize], "f32", "full logits"),
          };
    rec.hostOp({
      label: "full rows",
      downloads: lists === undefined ? [logits] : [logits, lists],
      downloadBytes: (live, index) => {
        if (live.numWide === 0) return 0;
        return index === 0 ? liveBytes(logits, live.numSamples) : (lists?.sizeBytes ?? 0);
      },
      uploads: full === undefined ? [] : [full.fullRows, full.fullLogits],
      run: async (io) => {
        if (io.live.numWide > 0) await this.#exchange(io, inputs, full);
        else if (full !== undefined) this.#clear(io, full.fullRows);
      },
    });
    return full;
  }

  async #exchange(io: HostOpIo, inputs: FullRowInputs, full: FullRows | undefined): Promise<void> {
    const decided = full === undefined ? undefined : await this.#undecidedRows(io, inputs);
    const message = await this.#tp.broadcastBytes(decided && bytesOf(decided), ROOT);
    const rows = new Uint32Array(message.slice().buffer);
    if (full !== undefined) this.#writeFullRows(io, full.fullRows, rows);
    if (rows.length === 0) return;
    const slice = rowsOf(await io.download(0), inputs.logits, rows);
    const parts = await this.#tp.gatherBytes(slice, ROOT);
    if (parts === undefined || full === undefined) return;
    this.#uploadRows(io, full.fullLogits, parts, rows.length);
  }

  /** Sampled rows that the gathered candidates do not decide. */
  async #undecidedRows(
    io: HostOpIo,
    { samplingRows, lists }: FullRowInputs,
  ): Promise<Uint32Array<ArrayBuffer>> {
    const copy = (await io.download(1)).slice();
    const words = new Uint32Array(copy.buffer);
    const [numLists = 1] = lists?.shape ?? [];
    const rows = Array.from({ length: io.live.numSamples }, (_, row) => row);
    return Uint32Array.from(rows.filter((row) => needsFullRow(words, numLists, samplingRows, row)));
  }

  #writeFullRows(io: HostOpIo, fullRows: Tensor, rows: Uint32Array): void {
    const indices = new Uint32Array(fullRows.numElements).fill(NO_TOKEN);
    for (const [index, row] of rows.entries()) indices[row] = index;
    io.upload(fullRows, bytesOf(indices));
    this.#isDirty = rows.length > 0;
  }

  #clear(io: HostOpIo, fullRows: Tensor): void {
    if (!this.#isDirty) return;
    this.#writeFullRows(io, fullRows, new Uint32Array(0));
  }

  /** Each part holds the rank's slice of every row; slices lie side by side in a whole row. */
  #uploadRows(
    io: HostOpIo,
    fullLogits: Tensor,
    parts: readonly Uint8Array[],
    numRows: number,
  ): void {
    let column = 0;
    for (const part of parts) {
      const sliceBytes = part.byteLength / numRows;
      for (let row = 0; row < numRows; row++) {
        const slice = part.subarray(row * sliceBytes, (row + 1) * sliceBytes);
        io.upload(fullLogits, slice, row * this.#vocabSize * 4 + column);
      }
      column += sliceBytes;
    }
  }
}

function bytesOf(words: Uint32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** The chosen rows of mapped logits, packed. */
function rowsOf(mapped: Uint8Array, logits: Tensor, rows: Uint32Array): Uint8Array<ArrayBuffer> {
  const rowBytes = liveBytes(logits, 1);
  const packed = new Uint8Array(rows.length * rowBytes);
  for (const [index, row] of rows.entries()) {
    packed.set(mapped.subarray(row * rowBytes, (row + 1) * rowBytes), index * rowBytes);
  }
  return packed;
}
