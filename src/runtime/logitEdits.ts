/**
 * Biases, bans and masks of a step's samples, brought to this rank's slice of the vocabulary. As in vLLM
 * they come before penalties. Steps without them write nothing and launch nothing.
 */
import type { Range } from "../../models/weights/weightSource.ts";
import { sizeOf } from "../../models/weights/weightSource.ts";
import type { Device, Tensor } from "../device/device.ts";
import type { LiveCounts } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { BIAS_WORDS, biasLogits, maskLogits } from "../kernels/sampling/logitEdits.ts";
import { maxLogitBiases } from "./completionParams.ts";
import type { ScheduledSequence } from "./stepPlan.ts";
import {
  decodeTokenMask,
  forbidTokens,
  fullTokenMask,
  sliceTokenMask,
  type TokenMask,
  tokenMaskWords,
} from "./tokenMask.ts";

/** Bans that a row has in the table of biases; with more it gets a mask, so that the table has a size. */
const MAX_TABLE_BANS = 64;

type Edited = Pick<ScheduledSequence, "logitBias" | "bannedTokenIds" | "allowedTokens">;

/** A row's edits within a slice. */
export interface RowEdits {
  /** Ids within the slice, none twice. */
  readonly biases: readonly (readonly [localId: number, bias: number])[];
  readonly mask: TokenMask | undefined;
}

export function rowEdits(sequence: Edited, vocab: Range, vocabSize: number): RowEdits {
  const { logitBias = [], bannedTokenIds = [], allowedTokens } = sequence;
  const isMasked = allowedTokens !== undefined || bannedTokenIds.length > MAX_TABLE_BANS;
  const banned = new Set(bannedTokenIds);
  const inTable = isMasked ? [] : [...banned].map((id): [number, number] => [id, -Infinity]);
  const biases = [...logitBias.filter(([id]) => !banned.has(id)), ...inTable]
    .filter(([id]) => id >= vocab.begin && id < vocab.end)
    .map(([id, bias]) => [id - vocab.begin, bias] as const);
  if (!isMasked) return { biases, mask: undefined };
  const whole =
    allowedTokens === undefined
      ? fullTokenMask(vocabSize)
      : decodeTokenMask(allowedTokens, vocabSize);
  forbidTokens(whole, banned);
  return { biases, mask: sliceTokenMask(whole, vocab.begin, vocab.end) };
}

/** What a step's edits come to. */
export interface StepEdits {
  readonly live: Pick<LiveCounts, "numBiased" | "numMasked">;
  /** For each sample its row of masks; undefined for none. */
  readonly maskRows: readonly (number | undefined)[];
}

export class LogitEdits {
  readonly #device: Device;
  readonly #vocab: Range;
  readonly #vocabSize: number;
  readonly #biases: Tensor; // [maxNumSeqs * most biases of a row, 3] u32
  readonly #masks: Tensor; // [maxNumSeqs, ceil(vocab of this rank / 32)] u32

  constructor(device: Device, vocab: Range, vocabSize: number, maxNumSeqs: number) {
    this.#device = device;
    this.#vocab = vocab;
    this.#vocabSize = vocabSize;
    const numVocab = sizeOf(vocab);
    const maxBiases = maxNumSeqs * Math.min(numVocab, maxLogitBiases + MAX_TABLE_BANS);
    this.#biases = device.empty([maxBiases, BIAS_WORDS], "u32", "logit biases");
    const maskShape = [maxNumSeqs, tokenMaskWords(numVocab)];
    this.#masks = device.empty(maskShape, "u32", "token masks");
  }

  /** Writes the tables of a step; `sampled` are its samples in order. */
  fill(sampled: readonly Edited[]): StepEdits {
    const rows = sampled.map((sequence) => rowEdits(sequence, this.#vocab, this.#vocabSize));
    const entries = rows.flatMap(({ biases }, row) =>
      biases.map(([localId, bias]) => ({ row, localId, bias })),
    );
    if (entries.length > 0) this.#device.write(this.#biases, packBiases(entries));
    const masks = rows.flatMap(({ mask }) => (mask === undefined ? [] : [mask]));
    if (masks.length > 0) this.#device.write(this.#masks, joinMasks(masks));
    let numMasked = 0;
    const maskRows = rows.map(({ mask }) => (mask === undefined ? undefined : numMasked++));
    return { live: { numBiased: entries.length, numMasked }, maskRows };
  }

  /** logits: [maxSamples, vocab of this rank] */
  record(rec: Recorder, samplingRows: Tensor, logits: Tensor): void {
    biasLogits(rec, { biases: this.#biases, logits });
    maskLogits(rec, { samplingRows, masks: this.#masks, logits });
  }
}

interface BiasEntry {
  readonly row: number;
  readonly localId: number;
  readonly bias: number;
}

function packBiases(entries: readonly BiasEntry[]): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(entries.length * BIAS_WORDS);
  const floats = new Float32Array(words.buffer);
  for (const [index, { row, localId, bias }] of entries.entries()) {
    words.set([row, localId], index * BIAS_WORDS);
    floats[index * BIAS_WORDS + 2] = bias;
  }
  return new Uint8Array(words.buffer);
}

function joinMasks(masks: readonly TokenMask[]): Uint8Array<ArrayBuffer> {
  const numWords = masks[0]?.length ?? 0;
  const words = new Uint32Array(masks.length * numWords);
  for (const [index, mask] of masks.entries()) words.set(mask, index * numWords);
  return new Uint8Array(words.buffer);
}
