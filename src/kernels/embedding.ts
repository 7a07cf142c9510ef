/** Token ids to rows of the embedding; the shader is shaders/embedding.wgsl. */
import { expectDType, expectShape, type Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { defineKernel, type Kernel, pack, u32, workgroupSize } from "./kernel.ts";
import type { LinearWeight, WeightPart } from "./linear.ts";

export interface EmbeddingArgs {
  readonly tokenIds: Tensor; // [numTokens] u32; bit 31 set: the low bits are a slot of lastToken
  readonly lastToken: Tensor; // [maxNumSeqs] u32
  /** [vocab, hidden] in parts by rows. */
  readonly table: LinearWeight;
  readonly out: Tensor; // [numTokens, hidden] f32
}

interface PartArgs extends EmbeddingArgs {
  readonly part: WeightPart;
}

/** Records one launch a part of the table; each writes only the tokens whose id lies in its rows. */
export function embedding(rec: Recorder, args: EmbeddingArgs): void {
  for (const part of args.table.parts) embedPart(rec, { ...args, part });
}

const embedPart: Kernel<PartArgs> = defineKernel({
  name: "embedding",
  sources: ({ part }) => [`lib/weights_${part.tensor.dtype}.wgsl`, "embedding.wgsl"],
  overrides: (_args, adapter) => ({ WG_SIZE: workgroupSize(adapter, 64) }),
  launch: ({ tokenIds, lastToken, part, out }) => {
    const [numRows = 0, hidden = 0] = part.tensor.shape;
    expectDType("tokenIds", tokenIds, ["u32"]);
    expectShape("out", out, [tokenIds.numElements, hidden]);
    return {
      params: pack(u32(hidden / 8), u32(part.outOffset), u32(numRows)),
      inputs: [tokenIds, lastToken, part.tensor],
      outputs: [out],
      workgroups: (live) => [live.numTokens, 1, 1],
    };
  },
});
