/** From a config and a rank's place in the layout to its recorded model. */
import type { Device, Tensor } from "../src/device/device.ts";
import { ropeTable } from "../src/kernels/rope.ts";
import type { ModelConfig } from "./config.ts";
import type { Decoder } from "./decoder.ts";
import type { KvCacheDType, LayerKvCache, WeightStore } from "./layers/context.ts";
import { BUILDERS } from "./registry.ts";
import { headShard, layerRange, vocabShard } from "./sharding.ts";
import { sizeOf } from "./weights/weightSource.ts";

export interface CreateModelOptions {
  readonly device: Device;
  readonly config: ModelConfig;
  /** World rank = ppRank * tpSize + tpRank. */
  readonly rank: number;
  readonly tpSize: number;
  readonly ppSize: number;
  readonly weights: WeightStore;
  readonly kvCaches: readonly LayerKvCache[];
  readonly lastToken: Tensor; // [maxNumSeqs] u32
  readonly blockSize: number;
  readonly maxSplits: number;
  readonly maxNumSeqs: number;
  readonly kvCacheDType: KvCacheDType;
  /** Rows of the RoPE table. */
  readonly maxModelLen: number;
}

export function createModel(options: CreateModelOptions): Decoder {
  const { device, config, rank, tpSize, ppSize, maxModelLen } = options;
  const { weights, kvCaches, lastToken, blockSize, maxSplits, kvCacheDType } = options;
  const [tpRank, ppRank] = [rank % tpSize, Math.floor(rank / tpSize)];
  const { heads, kvHeads } = headShard(config, tpSize, tpRank);
  const { headDim, rmsNormEps, qkNorm } = config;
  const layers = layerRange(config.numLayers, ppSize, ppRank);
  const isLast = ppRank === ppSize - 1;
  return BUILDERS[config.architecture]({
    config,
    layers,
    attention: {
      numHeads: sizeOf(heads),
      numKvHeads: sizeOf(kvHeads),
      headDim,
      blockSize,
      maxSplits,
      maxNumSeqs: options.maxNumSeqs,
      kvCacheDType,
      hasQkNorm: qkNorm,
      rmsNormEps,
    },
    weights,
    ropeTable: device.upload(
      ropeTable(config.rope, headDim, maxModelLen),
      [maxModelLen, headDim],
      "f32",
      "RoPE table",
    ),
    kvCaches,
    lastToken,
    stage: {
      receivedFrom: ppRank === 0 ? undefined : `model.layers.${layers.begin - 1}.mlp.down_proj`,
      vocabShard: isLast ? vocabShard(config, tpSize, tpRank) : undefined,
    },
  });
}
