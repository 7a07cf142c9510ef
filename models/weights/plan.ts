/**
 * Which parts of which tensors a rank needs and where they go: plain data that the loader carries
 * out and the printed plan adds up.
 *
 * Merged tensors, named as vLLM names them: qkv_proj = q rows, k rows, v rows; gate_up_proj = gate
 * rows, up rows, each padded with zero rows to the FFN shard's paddedSize. A target's rows are padded with zeros to a multiple
 * of 8 elements. What no part covers stays zero, as fresh GPU buffers are.
 */
import { bytesOf, type WeightDType } from "../../src/common/dtype.ts";
import { WeightsError } from "../../src/common/errors.ts";
import { product, roundUp } from "../../src/common/math.ts";
import type { ModelConfig } from "../config.ts";
import {
  checkLayout,
  ffnShard,
  headShard,
  type Layout,
  layerRange,
  type ShardRank,
  vocabShard,
} from "../sharding.ts";
import { EMBED_TOKENS, FINAL_NORM, layerPrefix, LM_HEAD, lmHeadName } from "./tensors.ts";
import { type Range, sizeOf, type WeightSource } from "./weightSource.ts";

/** Rows of every 2-D target are padded to a multiple of this many elements. */
export const ROW_PADDING_ELEMENTS = 8;

/** A slice of one checkpoint tensor and its place in the target. */
export interface TargetPart {
  /** Hugging Face name. */
  readonly source: string;
  /** Of the source's first axis. */
  readonly rows: Range;
  /** Of the source's second axis; left out where it has one axis only. */
  readonly columns?: Range;
  /** The target's row (of a 1-D target: element) that `rows.begin` becomes. */
  readonly destinationRow: number;
}

/** A tensor on the device, merged from its parts. */
export interface TargetTensor {
  /** `model.layers.3.self_attn.qkv_proj.bias`; unmerged tensors keep their Hugging Face name. */
  readonly name: string;
  /** null outside the layers. */
  readonly layer: number | null;
  /** [rows, columns] or [elements], as stored: padding included. */
  readonly shape: readonly number[];
  readonly parts: readonly TargetPart[];
}

/** One rank's weights. */
export interface ShardPlan extends ShardRank {
  readonly layers: Range;
  readonly targets: readonly TargetTensor[];
}

/** Checks the layout and lists what a rank loads; reads nothing. */
export function shardPlan(config: ModelConfig, layout: Layout, rank: ShardRank): ShardPlan {
  checkLayout(config, layout);
  const layers = layerRange(config.numLayers, layout.ppSize, rank.ppRank);
  const targets = Array.from({ length: sizeOf(layers) }, (_, i) =>
    new LayerTargets(config, layout, rank.tpRank, layers.begin + i).all(),
  ).flat();
  const whole: Range = { begin: 0, end: config.vocabSize };
  const hidden: Range = { begin: 0, end: config.hiddenSize };
  if (rank.ppRank === 0) {
    const parts = [{ source: EMBED_TOKENS, rows: whole, columns: hidden, destinationRow: 0 }];
    targets.unshift(matrix(EMBED_TOKENS, null, parts));
  }
  if (rank.ppRank === layout.ppSize - 1) {
    const rows = vocabShard(config, layout.tpSize, rank.tpRank, layout.tensorSplit);
    const parts = [{ source: lmHeadName(config), rows, columns: hidden, destinationRow: 0 }];
    targets.push(vector(FINAL_NORM, null, [{ source: FINAL_NORM, rows: hidden }]));
    targets.push(matrix(LM_HEAD, null, parts));
  }
  return { ...rank, layers, targets };
}

/** The targets of one layer on one tp rank. */
class LayerTargets {
  readonly #config: ModelConfig;
  readonly #layer: number;
  readonly #isFirstRank: boolean;
  readonly #hidden: Range;
  /** Rows of q, rows of k and v, rows of gate and up; columns of o and down. */
  readonly #q: Range;
  readonly #kv: Range;
  readonly #ffn: Range;
  readonly #ffnPadded: number;

  constructor(config: ModelConfig, layout: Layout, tpRank: number, layer: number) {
    const { tpSize, tensorSplit } = layout;
    const { heads, kvHeads } = headShard(config, tpSize, tpRank, tensorSplit);
    const { begin, end, paddedSize } = ffnShard(config, tpSize, tpRank, tensorSplit);
    this.#config = config;
    this.#layer = layer;
    this.#isFirstRank = tpRank === 0;
    this.#hidden = { begin: 0, end: config.hiddenSize };
    this.#q = scale(heads, config.headDim);
    this.#kv = scale(kvHeads, config.headDim);
    this.#ffn = { begin, end };
    this.#ffnPadded = paddedSize;
  }

  all(): TargetTensor[] {
    const { attentionBias, attentionOutputBias, mlpBias, qkNorm, headDim } = this.#config;
    const qkv: readonly Rows[] = [
      { source: "self_attn.q_proj", rows: this.#q, paddedSize: sizeOf(this.#q) },
      { source: "self_attn.k_proj", rows: this.#kv, paddedSize: sizeOf(this.#kv) },
      { source: "self_attn.v_proj", rows: this.#kv, paddedSize: sizeOf(this.#kv) },
    ];
    const gateUp: readonly Rows[] = [
      { source: "mlp.gate_proj", rows: this.#ffn, paddedSize: this.#ffnPadded },
      { source: "mlp.up_proj", rows: this.#ffn, paddedSize: this.#ffnPadded },
    ];
    const head: Range = { begin: 0, end: headDim };
    return [
      this.#norm("input_layernorm", this.#hidden),
      ...this.#columnParallel("self_attn.qkv_proj", qkv, attentionBias),
      ...(qkNorm ? [this.#norm("self_attn.q_norm", head)] : []),
      ...(qkNorm ? [this.#norm("self_attn.k_norm", head)] : []),
      ...this.#rowParallel("self_attn.o_proj", this.#q, attentionOutputBias),
      this.#norm("post_attention_layernorm", this.#hidden),
      ...this.#columnParallel("mlp.gate_up_proj", gateUp, mlpBias),
      ...this.#rowParallel("mlp.down_proj", this.#ffn, mlpBias),
    ];
  }

  #norm(name: string, rows: Range): TargetTensor {
    const source = `${layerPrefix(this.#layer)}${name}.weight`;
    return vector(source, this.#layer, [{ source, rows }]);
  }

  /** Merged by stacking rows; every rank adds the bias of its own rows. */
  #columnParallel(name: string, stack: readonly Rows[], hasBias: boolean): TargetTensor[] {
    const target = layerPrefix(this.#layer) + name;
    const parts = stack.map(({ source, rows }, i) => ({
      source: layerPrefix(this.#layer) + source,
      rows,
      destinationRow: stack.slice(0, i).reduce((sum, { paddedSize }) => sum + paddedSize, 0),
    }));
    const numRows = stack.reduce((sum, { paddedSize }) => sum + paddedSize, 0);
    const weights = parts.map((part) => ({
      ...part,
      source: `${part.source}.weight`,
      columns: this.#hidden,
    }));
    const biases = parts.map((part) => ({ ...part, source: `${part.source}.bias` }));
    return [
      matrix(`${target}.weight`, this.#layer, weights, numRows),
      ...(hasBias ? [vector(`${target}.bias`, this.#layer, biases, numRows)] : []),
    ];
  }

  /** Partial products are summed over ranks, so one rank alone adds the bias. */
  #rowParallel(name: string, columns: Range, hasBias: boolean): TargetTensor[] {
    const weight = `${layerPrefix(this.#layer)}${name}.weight`;
    const bias = `${layerPrefix(this.#layer)}${name}.bias`;
    const part = { source: weight, rows: this.#hidden, columns, destinationRow: 0 };
    const holdsBias = hasBias && this.#isFirstRank;
    return [
      matrix(weight, this.#layer, [part]),
      ...(holdsBias ? [vector(bias, this.#layer, [{ source: bias, rows: this.#hidden }])] : []),
    ];
  }
}

/** One of the tensors that are stacked into a merged one. */
interface Rows {
  readonly source: string;
  readonly rows: Range;
  readonly paddedSize: number;
}

function scale({ begin, end }: Range, by: number): Range {
  return { begin: begin * by, end: end * by };
}

function matrix(
  name: string,
  layer: number | null,
  parts: readonly (TargetPart & { readonly columns: Range })[],
  numRows = parts.reduce((sum, { rows }) => sum + sizeOf(rows), 0),
): TargetTensor {
  const widest = Math.max(...parts.map(({ columns }) => sizeOf(columns)));
  return { name, layer, shape: [numRows, roundUp(widest, ROW_PADDING_ELEMENTS)], parts };
}

function vector(
  name: string,
  layer: number | null,
  parts: readonly (Omit<TargetPart, "destinationRow"> & { readonly destinationRow?: number })[],
  numElements = parts.reduce((sum, { rows }) => sum + sizeOf(rows), 0),
): TargetTensor {
  const placed = parts.map((part) => ({ destinationRow: 0, ...part }));
  return { name, layer, shape: [numElements], parts: placed };
}

/** Elements that a target takes on the device. */
export function numElementsOf(target: TargetTensor): number {
  return product(target.shape);
}

/** The dtype that a target's parts share in the source; parts that differ cannot be merged. */
export function targetDType(target: TargetTensor, source: WeightSource): WeightDType {
  const dtypes = new Map(target.parts.map((part) => [source.info(part.source).dtype, part.source]));
  const [first, second] = dtypes;
  if (first === undefined) return "f32";
  if (second === undefined) return first[0];
  throw new WeightsError({
    what: second[1],
    expected: `${first[0]}, as ${first[1]} has, for both go into ${target.name}`,
    got: second[0],
    remedy: "convert the checkpoint to one dtype",
  });
}

/** Bytes of a rank's weights, when all are stored as `dtype`. */
export function planBytes(plan: ShardPlan, dtype: WeightDType): number {
  return plan.targets.reduce((sum, target) => sum + numElementsOf(target), 0) * bytesOf(dtype);
}
