/** Runs the sampling kernels as the runtime does, on one rank or over a sharded vocabulary. */
import type { Device, Tensor } from "../../src/device/device.ts";
import { type LiveCounts, liveRows } from "../../src/device/liveCounts.ts";
import { CANDIDATE_WORDS, NO_TOKEN } from "../../src/kernels/sampling/candidateLayout.ts";
import { topCandidates } from "../../src/kernels/sampling/candidates.ts";
import { needsFullRow } from "../../src/kernels/sampling/needsFullRow.ts";
import { pickToken, sampleFull, sampleLocal } from "../../src/kernels/sampling/pickToken.ts";
import {
  packSamplingRow,
  SAMPLING_ROW_WORDS,
  type SamplingRow,
} from "../../src/kernels/sampling/samplingRow.ts";

/** Logits that look like a model's: many small, a few large. */
export function randomLogits(length: number, seed: number, spread = 3): Float32Array<ArrayBuffer> {
  let state = (seed ^ 0x2545f491) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length },
    () => spread * Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()),
  );
}

/** A row with defaults: unfiltered, temperature 1. Flags follow from the fields. */
export function rowOf(fields: Partial<SamplingRow> = {}): SamplingRow {
  const row = {
    ...{ slot: 0, position: 5, seed: 1, isGreedy: false, hasPenalties: false, temperature: 1 },
    ...{ topK: 0, topP: 1, minP: 0 },
    ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
    ...fields,
  };
  const isFiltered = !row.isGreedy && (row.topK > 0 || row.topP < 1 || row.minP > 0);
  const isWide = isFiltered && (row.topK === 0 || row.topK > 64);
  return { isFiltered, isWide, ...row };
}

export interface Batch {
  readonly vocab: number;
  readonly logits: Float32Array; // [rows.length, vocab]
  readonly rows: readonly SamplingRow[];
}

export interface Sampled {
  readonly ids: readonly number[];
  readonly lastToken: readonly number[];
  /** Rows that went through sampleFull. */
  readonly numFull: number;
}

/** Rows past the live ones, and their sentinel: nothing may write there. */
const SPARE_ROWS = 3;
const SENTINEL = 0xabcdef01;

interface Outputs {
  readonly sampledIds: Tensor;
  readonly lastToken: Tensor;
  readonly fullRows: Tensor;
}

function liveOf(rows: readonly SamplingRow[]): LiveCounts {
  const count = (test: (row: SamplingRow) => boolean): number => rows.filter(test).length;
  return liveRows(rows.length, {
    numPenalized: count((row) => row.hasPenalties),
    numFiltered: count((row) => row.isFiltered && !row.isGreedy),
    numWide: count((row) => row.isWide),
  });
}

export function packRows(rows: readonly SamplingRow[]): Uint32Array<ArrayBuffer> {
  const packed = new Uint32Array((rows.length + SPARE_ROWS) * SAMPLING_ROW_WORDS);
  rows.forEach((row, index) => {
    packSamplingRow(packed, index, row);
  });
  return packed;
}

function padRows(logits: Float32Array, width: number): Float32Array<ArrayBuffer> {
  const padded = new Float32Array(logits.length + SPARE_ROWS * width);
  padded.set(logits);
  return padded;
}

function outputs(device: Device, numRows: number, maxSeqs: number): Outputs {
  const filled = (length: number): Tensor =>
    device.upload(new Uint32Array(length).fill(SENTINEL), [length], "u32");
  return { sampledIds: filled(numRows), lastToken: filled(maxSeqs), fullRows: filled(numRows) };
}

async function readU32(device: Device, tensor: Tensor): Promise<number[]> {
  return [...new Uint32Array(await device.readBytes(tensor))];
}

async function collect(
  device: Device,
  out: Outputs,
  batch: Batch,
  numFull: number,
): Promise<Sampled> {
  const ids = await readU32(device, out.sampledIds);
  if (ids.slice(batch.rows.length).some((id) => id !== SENTINEL))
    throw new Error("wrote past the live rows");
  const lastToken = await readU32(device, out.lastToken);
  const slots = new Set(batch.rows.map(({ slot }) => slot));
  if (lastToken.some((id, slot) => id !== SENTINEL && !slots.has(slot)))
    throw new Error("wrote another slot");
  return { ids: ids.slice(0, batch.rows.length), lastToken, numFull };
}

/** Samples on one rank that holds the whole vocabulary. */
export async function sampleOnOneRank(
  device: Device,
  batch: Batch,
  maxSeqs = 64,
): Promise<Sampled> {
  const { vocab, rows } = batch;
  const capacity = rows.length + SPARE_ROWS;
  const logits = device.upload(padRows(batch.logits, vocab), [capacity, vocab]);
  const samplingRows = device.upload(packRows(rows), [capacity, SAMPLING_ROW_WORDS], "u32");
  const out = outputs(device, capacity, maxSeqs);
  await device.run((rec) => {
    sampleLocal(rec, { logits, samplingRows, ...out });
  }, liveOf(rows));
  const sampled = await collect(device, out, batch, 0);
  for (const tensor of [logits, samplingRows, ...(Object.values(out) as Tensor[])])
    tensor.buffer.destroy();
  return sampled;
}

/** The slice [begin, end) of every row. */
export function sliceColumns(batch: Batch, begin: number, end: number): Float32Array<ArrayBuffer> {
  const width = end - begin;
  const slice = new Float32Array(batch.rows.length * width);
  batch.rows.forEach((_, row) => {
    slice.set(
      batch.logits.subarray(row * batch.vocab + begin, row * batch.vocab + end),
      row * width,
    );
  });
  return slice;
}

/** The candidates of one slice, as its rank would publish them: [rows.length + spare, 130]. */
export async function candidatesOfSlice(
  device: Device,
  batch: Batch,
  begin: number,
  end: number,
): Promise<Uint32Array<ArrayBuffer>> {
  const capacity = batch.rows.length + SPARE_ROWS;
  const width = end - begin;
  const logits = device.upload(padRows(sliceColumns(batch, begin, end), width), [capacity, width]);
  const samplingRows = device.upload(packRows(batch.rows), [capacity, SAMPLING_ROW_WORDS], "u32");
  const candidates = device.empty([capacity, CANDIDATE_WORDS], "u32");
  device.write(
    candidates,
    new Uint8Array(new Uint32Array(candidates.numElements).fill(SENTINEL).buffer),
  );
  await device.run((rec) => {
    topCandidates(rec, { logits, firstTokenId: begin, samplingRows, candidates });
  }, liveOf(batch.rows));
  const words = new Uint32Array(await device.readBytes(candidates));
  const spare = words.subarray(batch.rows.length * CANDIDATE_WORDS);
  if (spare.some((value) => value !== SENTINEL)) throw new Error("wrote past the live rows");
  for (const tensor of [logits, samplingRows, candidates]) tensor.buffer.destroy();
  return words;
}

/** Samples over ranks that hold [0, cuts[0]), [cuts[0], cuts[1]), …; the host carries the candidates. */
export async function sampleOverRanks(
  device: Device,
  batch: Batch,
  cuts: readonly number[],
  maxSeqs = 64,
): Promise<Sampled> {
  const { vocab, rows } = batch;
  const capacity = rows.length + SPARE_ROWS;
  const bounds = [0, ...cuts, vocab];
  const numLists = bounds.length - 1;
  const gathered = new Uint32Array(numLists * capacity * CANDIDATE_WORDS);
  for (let rank = 0; rank < numLists; rank++) {
    const words = await candidatesOfSlice(device, batch, bounds[rank] ?? 0, bounds[rank + 1] ?? 0);
    gathered.set(words, rank * words.length);
  }
  const packed = packRows(rows);
  const wanted = rows.flatMap((_, row) =>
    needsFullRow(gathered, numLists, packed, row) ? [row] : [],
  );
  const fullTable = new Uint32Array(capacity).fill(NO_TOKEN);
  const fullLogits = new Float32Array(Math.max(wanted.length, 1) * vocab);
  wanted.forEach((row, index) => {
    fullTable[row] = index;
    fullLogits.set(batch.logits.subarray(row * vocab, (row + 1) * vocab), index * vocab);
  });
  const samplingRows = device.upload(packed, [capacity, SAMPLING_ROW_WORDS], "u32");
  const lists = device.upload(gathered, [numLists, capacity, CANDIDATE_WORDS], "u32");
  const logits = device.upload(fullLogits, [Math.max(wanted.length, 1), vocab]);
  const out = outputs(device, capacity, maxSeqs);
  device.write(out.fullRows, new Uint8Array(fullTable.buffer));
  await device.run((rec) => {
    pickToken(rec, { lists, samplingRows, ...out, hostDecides: true });
    sampleFull(rec, { logits, samplingRows, ...out });
  }, liveOf(rows));
  const sampled = await collect(device, out, batch, wanted.length);
  for (const tensor of [lists, logits, samplingRows, ...(Object.values(out) as Tensor[])])
    tensor.buffer.destroy();
  return sampled;
}
