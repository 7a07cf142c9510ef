/**
 * A StepPlan as the GPU reads it: one packed buffer a token class, written once a step, with a
 * tensor for each field. Block tables live apart, keyed by slot, and only their changes are written.
 */
import type { StepInputs } from "../../models/layers/context.ts";
import { ShapeError } from "../common/errors.ts";
import { ceilDiv, roundUp } from "../common/math.ts";
import type { Device, Tensor } from "../device/device.ts";
import { LIVE_SIZE_BYTES, type LiveCounts, packLiveCounts } from "../device/liveCounts.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import { buildPrefillTiles, TILE_Q } from "../kernels/attention.ts";
import { promptRows } from "./promptRows.ts";
import type { ScheduledSequence, StepPlan } from "./stepPlan.ts";

/** Set in a token id that is a slot of lastToken instead. */
const FROM_LAST_TOKEN = 0x8000_0000;

/** u32 of one sampling row; the layout is kernels/sampling's. */
export const SAMPLING_ROW_WORDS = 12;

const ALIGNMENT_WORDS = OFFSET_ALIGNMENT / 4;
const LIVE_WORDS = roundUp(LIVE_SIZE_BYTES / 4, ALIGNMENT_WORDS);

/** Sizes that fix the buffers. */
export interface StepShape {
  /** Tokens of the class. */
  readonly capacity: number;
  readonly maxNumSeqs: number;
  readonly blockSize: number;
}

/** The packed inputs of a list: of one step, or of several that are submitted together. */
export class ListInputs {
  readonly steps: readonly StepBuffers[];
  readonly live: Tensor; // [12] u32: the counts of each of its steps
  readonly #device: Device;
  readonly #storage: Tensor; // the counts, then each step's fields
  readonly #words: Uint32Array<ArrayBuffer>;

  constructor(device: Device, shape: StepShape, blockTables: Tensor, numSteps = 1) {
    this.#device = device;
    const fields = layOut(shape);
    const totalWords = LIVE_WORDS + numSteps * fields.totalWords;
    const label = `inputs of ${shape.capacity} tokens`;
    this.#words = new Uint32Array(totalWords);
    this.#storage = device.empty([totalWords], "u32", label, 0x0040); // UNIFORM, for `live`
    this.live = this.#storage.view([LIVE_SIZE_BYTES / 4]);
    this.steps = Array.from({ length: numSteps }, (_, step) => {
      const begin = LIVE_WORDS + step * fields.totalWords;
      const words = this.#words.subarray(begin, begin + fields.totalWords);
      const storage = this.#storage.view([fields.totalWords], begin);
      return new StepBuffers(shape, fields, { words, storage, blockTables });
    });
  }

  /** In one write, which all launches of the replay wait for. */
  upload(live: LiveCounts): void {
    this.#words.set(packLiveCounts(live));
    this.#device.write(this.#storage, new Uint8Array(this.#words.buffer));
  }
}

/** One step's part of ListInputs, on the host and on the device. */
interface StepParts {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly storage: Tensor; // [totalWords] u32
  readonly blockTables: Tensor;
}

/** The inputs of one step. */
export class StepBuffers {
  readonly inputs: StepInputs;
  readonly samplingRows: Tensor; // [maxSamples, 12] u32
  readonly #shape: StepShape;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #fields: StepFields["fields"];

  constructor(shape: StepShape, { fields }: StepFields, parts: StepParts) {
    this.#shape = shape;
    this.#fields = fields;
    this.#words = parts.words;
    const tensor = (name: FieldName, columns?: number): Tensor => {
      const { begin, length } = fields[name];
      const dims = columns === undefined ? [length] : [length / columns, columns];
      return parts.storage.view(dims, begin);
    };
    this.inputs = {
      tokenIds: tensor("tokenIds"),
      positions: tensor("positions"),
      sequenceIndex: tensor("sequenceIndex"),
      slotMapping: tensor("slotMapping"),
      prefillTiles: tensor("prefillTiles", 4),
      sampleRows: tensor("sampleRows"),
      blockTables: parts.blockTables,
    };
    this.samplingRows = tensor("samplingRows", SAMPLING_ROW_WORDS);
  }

  /** The host's copy of a field, to be filled before `upload`. */
  field(name: FieldName): Uint32Array<ArrayBuffer> {
    const { begin, length } = this.#fields[name];
    return this.#words.subarray(begin, begin + length);
  }

  /** Fills all fields but samplingRows from a plan; returns the number of prefill tiles. */
  fill(plan: StepPlan): number {
    const [tokenIds, positions] = [this.field("tokenIds"), this.field("positions")];
    const [sequenceIndex, slotMapping] = [this.field("sequenceIndex"), this.field("slotMapping")];
    const sampleRows = this.field("sampleRows");
    let [row, sample] = [0, 0];
    for (const sequence of plan.sequences) {
      for (let i = 0; i < sequence.numTokens; i++) {
        const position = sequence.startPosition + i;
        tokenIds[row] = sequence.tokenIds?.[i] ?? (FROM_LAST_TOKEN | sequence.slot) >>> 0;
        positions[row] = position;
        sequenceIndex[row] = sequence.slot;
        slotMapping[row] = kvSlot(sequence, position, this.#shape.blockSize);
        row += 1;
      }
      if (sequence.samples) sampleRows[sample++] = row - 1;
    }
    for (const { tokenRow } of promptRows(plan)) sampleRows[sample++] = tokenRow;
    const tiles = prefillTiles(plan);
    this.field("prefillTiles").set(tiles);
    return tiles.length / 4;
  }
}

const FIELD_NAMES = [
  "tokenIds",
  "positions",
  "sequenceIndex",
  "slotMapping",
  "prefillTiles",
  "sampleRows",
  "samplingRows",
] as const;
type FieldName = (typeof FIELD_NAMES)[number];

/** Where each field of a step is, in words. */
interface StepFields {
  readonly fields: Readonly<Record<FieldName, { readonly begin: number; readonly length: number }>>;
  readonly totalWords: number;
}

function layOut({ capacity, maxNumSeqs }: StepShape): StepFields {
  const maxSamples = Math.min(capacity, maxNumSeqs);
  const maxTiles = Math.min(capacity, ceilDiv(capacity, TILE_Q) + maxNumSeqs);
  const lengths: Record<FieldName, number> = {
    tokenIds: capacity,
    positions: capacity,
    sequenceIndex: capacity,
    slotMapping: capacity,
    prefillTiles: maxTiles * 4,
    sampleRows: maxSamples,
    samplingRows: maxSamples * SAMPLING_ROW_WORDS,
  };
  const fields = {} as Record<FieldName, { begin: number; length: number }>;
  let totalWords = 0;
  for (const name of FIELD_NAMES) {
    fields[name] = { begin: totalWords, length: lengths[name] };
    totalWords += roundUp(lengths[name], ALIGNMENT_WORDS);
  }
  return { fields, totalWords };
}

/** Where a position's key and value go: block * blockSize + offset. */
function kvSlot({ blockTable }: ScheduledSequence, position: number, blockSize: number): number {
  const block = blockTable[Math.floor(position / blockSize)];
  if (block === undefined) {
    throw new ShapeError(
      `block table: position ${position} needs block ${Math.floor(position / blockSize)}, got ${blockTable.length} blocks`,
    );
  }
  return block * blockSize + (position % blockSize);
}

/** The leading one-token parts go through decode attention; the rest by tiles. */
export function countDecodeTokens(plan: StepPlan): number {
  const first = plan.sequences.findIndex(({ numTokens }) => numTokens > 1);
  return first < 0 ? plan.sequences.length : first;
}

/** Tiles of all parts with more than one token. */
function prefillTiles(plan: StepPlan): Uint32Array {
  let firstTokenRow = 0;
  const longer: { row: number; firstTokenRow: number; numTokens: number }[] = [];
  for (const { slot, numTokens } of plan.sequences) {
    if (numTokens > 1) longer.push({ row: slot, firstTokenRow, numTokens });
    firstTokenRow += numTokens;
  }
  return buildPrefillTiles(longer);
}

/** Block tables of all slots on the device; writes only what changed since the last step. */
export class BlockTables {
  readonly tensor: Tensor; // [maxNumSeqs, maxBlocksPerSequence] u32
  readonly #device: Device;
  readonly #stride: number;
  readonly #mirror: Uint32Array<ArrayBuffer>;

  constructor(device: Device, maxNumSeqs: number, maxBlocksPerSequence: number) {
    this.#device = device;
    this.#stride = maxBlocksPerSequence;
    this.tensor = device.empty([maxNumSeqs, maxBlocksPerSequence], "u32", "block tables");
    this.#mirror = new Uint32Array(maxNumSeqs * maxBlocksPerSequence);
  }

  update({ slot, blockTable }: ScheduledSequence): void {
    if (blockTable.length > this.#stride) {
      throw new ShapeError(
        `block table: expected at most ${this.#stride} blocks, got ${blockTable.length}`,
      );
    }
    const base = slot * this.#stride;
    let [first, last] = [blockTable.length, -1];
    for (const [i, block] of blockTable.entries()) {
      if (this.#mirror[base + i] === block) continue;
      this.#mirror[base + i] = block;
      first = Math.min(first, i);
      last = i;
    }
    if (last < 0) return;
    const changed = this.#mirror.subarray(base + first, base + last + 1);
    const bytes = new Uint8Array(changed.buffer, changed.byteOffset, changed.byteLength);
    this.#device.write(this.tensor, bytes, (base + first) * 4);
  }
}
