/** Rows of the embedding table by token id; the shader is shaders/embedding.wgsl. */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { expectDType, expectShape, type Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";
import type { LinearWeight, WeightPart } from "./linear.ts";

export interface EmbeddingArgs {
  readonly tokenIds: Tensor; // [capacity] u32; bit 31 set: the low bits are a slot of lastToken
  readonly lastToken: Tensor; // [maxNumSeqs] u32: the last sampled token of each slot
  readonly table: LinearWeight; // [vocabSize, hidden]; outOffset is a part's first token id
  readonly out: Tensor; // [capacity, hidden]
}

/** One launch a part of the table over the live tokens; each writes the rows of its own ids. */
export function embedding(rec: Recorder, args: EmbeddingArgs): void {
  const { tokenIds, lastToken, table, out } = args;
  const [capacity = 0] = out.shape;
  expectShape("out", out, [capacity, table.inFeatures]);
  expectDType("tokenIds", tokenIds, ["u32"]);
  expectDType("lastToken", lastToken, ["u32"]);
  if (tokenIds.numElements < capacity) {
    throw new ShapeError(`tokenIds: expected ${capacity} or more, got ${tokenIds.numElements}`);
  }
  if (table.inFeatures % 8 !== 0) {
    throw new ShapeError(`table: expected rows of a multiple of 8, got ${table.inFeatures}`);
  }
  for (const part of table.parts) embedPart(rec, { ...args, part });
}

interface PartArgs extends EmbeddingArgs {
  readonly part: WeightPart;
}

const embedPart: Kernel<PartArgs> = defineKernel<PartArgs>({
  name: "embedding",
  sources: ({ part }) => [`lib/weights_${part.tensor.dtype}.wgsl`, "embedding.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: ({ tokenIds, lastToken, table, out, part }, adapter) => {
    const { tensor, outOffset } = part;
    const [numRows = 0] = tensor.shape;
    expectShape("table", tensor, [numRows, table.inFeatures]);
    expectDType("table", tensor, ["f32", "f16", "bf16"]);
    const numChunks = table.inFeatures / 8;
    const groups = ceilDiv(numChunks, workgroupSize(adapter, 64));
    return {
      params: pack(u32(numChunks), u32(outOffset), u32(numRows), u32(lastToken.numElements)),
      inputs: [tokenIds, lastToken, tensor],
      outputs: [out],
      workgroups: (live) => [groups, live.numTokens, 1],
    };
  },
});
