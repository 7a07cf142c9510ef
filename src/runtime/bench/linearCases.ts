/** The linear layers of a model, with what is fused into them for few tokens. */
import { bytesOf } from "../../common/dtype.ts";
import { ceilDiv } from "../../common/math.ts";
import type { Tensor } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import type { Recorder } from "../../device/recorder.ts";
import type { LinearWeight } from "../../kernels/linear.ts";
import { linearFrom, type LinearInput, linearOnto } from "../../kernels/linearFused.ts";
import { halvesShape, linearSplit, splitsOf, takesHalves } from "../../kernels/linearMatrix.ts";
import { MAX_GEMV_CAPACITY } from "../../kernels/linearVariant.ts";
import { qkvRope } from "../../kernels/qkvRope.ts";
import { ropeTable } from "../../kernels/rope.ts";
import { type CaseMemory, capacityOf, type KernelCase, type RankSizes } from "./kernelCase.ts";

interface LinearShape {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** from: reads a norm (few tokens) or its output; onto: adds to the residual; rope: as from, then RoPE. */
  readonly kind: "from" | "swiglu" | "onto" | "rope";
  readonly rows: "tokens" | "samples";
}

const BLOCK_SIZE = 16;

/** Every linear layer for every count of tokens; lm_head for as many rows. */
export function linearCases(sizes: RankSizes, tokenCounts: readonly number[]): KernelCase[] {
  const { hidden, numHeads, numKvHeads, headDim, intermediate, vocab } = sizes;
  const qkvRows = (numHeads + 2 * numKvHeads) * headDim;
  const rows = "tokens";
  const shapes: LinearShape[] = [
    { name: "qkv_proj + RoPE", outFeatures: qkvRows, inFeatures: hidden, kind: "rope", rows },
    { name: "o_proj", outFeatures: hidden, inFeatures: numHeads * headDim, kind: "onto", rows },
    {
      name: "gate_up_proj",
      outFeatures: 2 * intermediate,
      inFeatures: hidden,
      kind: "swiglu",
      rows,
    },
    { name: "down_proj", outFeatures: hidden, inFeatures: intermediate, kind: "onto", rows },
    { name: "lm_head", outFeatures: vocab, inFeatures: hidden, kind: "from", rows: "samples" },
  ];
  return tokenCounts.flatMap((tokens) =>
    shapes
      .filter(({ rows: of }) => of === "tokens" || tokens <= 256) // no step samples more rows
      .map((shape) => linearCase(sizes, shape, tokens)),
  );
}

function linearCase(sizes: RankSizes, shape: LinearShape, tokens: number): KernelCase {
  const { outFeatures, inFeatures, kind } = shape;
  const coldBytes = outFeatures * inFeatures * bytesOf(sizes.dtype);
  const numOutputs = kind === "swiglu" ? outFeatures / 2 : outFeatures;
  return {
    family: "linear",
    name: shape.name,
    tokens,
    context: null,
    bytes: coldBytes + 4 * tokens * (inFeatures + numOutputs),
    flops: 2 * tokens * outFeatures * inFeatures,
    live: liveRows(tokens),
    coldBytes,
    prepare: (memory, numCopies) =>
      prepare(memory, numCopies, { sizes, shape, tokens, numOutputs }),
  };
}

interface Draft {
  readonly sizes: RankSizes;
  readonly shape: LinearShape;
  readonly tokens: number;
  readonly numOutputs: number;
}

type RecordCall = (rec: Recorder, copy: number) => void;

async function prepare(memory: CaseMemory, numCopies: number, draft: Draft): Promise<RecordCall> {
  const { sizes, shape, tokens } = draft;
  const { outFeatures, inFeatures, kind, rows } = shape;
  const weights: LinearWeight[] = [];
  for (let i = 0; i < numCopies; i++) {
    weights.push(await memory.weight(outFeatures, inFeatures, sizes.dtype, kind === "swiglu"));
  }
  const none: LinearWeight = { parts: [], outFeatures, inFeatures };
  const weightOf = (copy: number): LinearWeight => weights[copy] ?? none;
  const capacity = capacityOf(tokens);
  if (kind === "onto") return await prepareOnto(memory, draft, weightOf);
  const x = await inputOf(memory, shape, capacity);
  if (kind === "rope") {
    const record = await prepareRope(memory, sizes, x, tokens);
    return (rec, copy) => record(rec, weightOf(copy));
  }
  const isHalves = kind === "swiglu" && isHalvesInput(memory, shape, capacity);
  const out = isHalves
    ? memory.empty(halvesShape(capacity, draft.numOutputs), "f16")
    : memory.empty([capacity, draft.numOutputs]);
  const activation = kind === "swiglu" ? "swiglu" : "none";
  return (rec, copy) => linearFrom(rec, { x, weight: weightOf(copy), out, rows, activation });
}

/** True where the layers hand on activations as f16, for tensor cores alone. */
function isHalvesInput(
  { device }: CaseMemory,
  { rows, inFeatures }: LinearShape,
  capacity: number,
): boolean {
  return rows === "tokens" && takesHalves(device.info, capacity, inFeatures);
}

/** A norm for few tokens, else its output, as f16 where tensor cores do all the work. */
async function inputOf(
  memory: CaseMemory,
  shape: LinearShape,
  capacity: number,
): Promise<LinearInput> {
  const { inFeatures } = shape;
  if (isHalvesInput(memory, shape, capacity)) {
    return await memory.filled(halvesShape(capacity, inFeatures), "f16");
  }
  const x = await memory.filled([capacity, inFeatures]);
  if (capacity > MAX_GEMV_CAPACITY) return x;
  return { residual: x, weight: await memory.filled([inFeatures]), eps: 1e-5 };
}

/** A row-parallel layer: adds to the residual, or leaves sums for the next norm to add. */
async function prepareOnto(
  memory: CaseMemory,
  { shape, tokens }: Draft,
  weightOf: (copy: number) => LinearWeight,
): Promise<RecordCall> {
  const { outFeatures, inFeatures, rows } = shape;
  const capacity = capacityOf(tokens);
  const isHalves = isHalvesInput(memory, shape, capacity);
  const x = isHalves
    ? await memory.filled(halvesShape(capacity, inFeatures), "f16")
    : await memory.filled([capacity, inFeatures]);
  if (capacity <= MAX_GEMV_CAPACITY) {
    const residual = await memory.filled([capacity, outFeatures]);
    const out = memory.empty([capacity, outFeatures]);
    return (rec, copy) => linearOnto(rec, { x, weight: weightOf(copy), residual, out, rows });
  }
  const splitShape = { weight: weightOf(0), capacity, hasBias: false };
  const splits = isHalves ? splitsOf(memory.device.info, splitShape) : 1;
  const out = memory.empty([splits * capacity, outFeatures]);
  return (rec, copy) => {
    const args = { x, weight: weightOf(copy), out, rows };
    if (splits > 1) linearSplit(rec, args, splits);
    else linearFrom(rec, args);
  };
}

async function prepareRope(
  memory: CaseMemory,
  sizes: RankSizes,
  x: LinearInput,
  tokens: number,
): Promise<(rec: Recorder, weight: LinearWeight) => void> {
  const { config, numHeads, numKvHeads, headDim, kvDType } = sizes;
  const capacity = capacityOf(tokens);
  const places = Array.from({ length: capacity }, (_, i) => i);
  const cacheShape = [ceilDiv(capacity, BLOCK_SIZE), BLOCK_SIZE, numKvHeads, headDim];
  const table = memory.empty([capacity, headDim]);
  memory.device.write(table, new Uint8Array(ropeTable(config.rope, headDim, capacity).buffer));
  const norm = async (): Promise<Tensor | undefined> =>
    config.qkNorm ? await memory.filled([headDim]) : undefined;
  const args = {
    x,
    positions: memory.words(places),
    slotMapping: memory.words(places),
    ropeTable: table,
    qNorm: await norm(),
    kNorm: await norm(),
    eps: 1e-5,
    q: memory.empty([capacity, numHeads * headDim]),
    keyCache: memory.empty(cacheShape, kvDType),
    valueCache: memory.empty(cacheShape, kvDType),
    kvDType,
    numHeads,
    numKvHeads,
    headDim,
  };
  return (rec, weight) => qkvRope(rec, { ...args, weight });
}
