/** What there is to tune for a rank: the shapes of its linear layers and of its attention. */
import type { ModelConfig } from "../../../models/config.ts";
import { headShard } from "../../../models/sharding.ts";
import { splitTarget } from "../../../models/weights/pieces.ts";
import { shardPlan } from "../../../models/weights/plan.ts";
import { EMBED_TOKENS } from "../../../models/weights/tensors.ts";
import { sizeOf } from "../../../models/weights/weightSource.ts";
import { bytesOf, type WeightDType } from "../../common/dtype.ts";
import { linearEntry } from "../../kernels/linearVariant.ts";
import { type RankSpec, shardRank } from "../rankSpec.ts";

/** One launch's rows of a weight. */
export interface TunableLinear {
  readonly entry: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly dtype: WeightDType;
  readonly isSwiglu: boolean;
}

export interface TunableShapes {
  readonly config: ModelConfig;
  readonly tpSize: number;
  readonly dtype: WeightDType;
  readonly kvDType: "f32" | "f16";
  readonly linears: readonly TunableLinear[];
  readonly headDim: number;
  /** Query heads a KV head. */
  readonly group: number;
}

/** `maxBindingBytes` cuts weights into parts, as the loader does. */
export function tunableShapes(
  { rank, model: { config }, run }: RankSpec,
  dtype: WeightDType,
  maxBindingBytes: number,
): TunableShapes {
  const { tpSize, ppSize, kvCacheDType } = run;
  const place = shardRank(rank, run);
  const { targets } = shardPlan(config, { tpSize, ppSize }, place);
  const linears = new Map<string, TunableLinear>();
  for (const target of targets) {
    const [, inFeatures = 0] = target.shape;
    if (target.shape.length !== 2 || target.name === EMBED_TOKENS) continue;
    const isSwiglu = target.name.endsWith("gate_up_proj.weight");
    const maxRows = Math.floor(maxBindingBytes / (inFeatures * bytesOf(dtype)));
    for (const { numRows: outFeatures } of splitTarget(target, maxRows)) {
      const entry = linearEntry({ outFeatures, inFeatures, dtype });
      linears.set(entry, { entry, outFeatures, inFeatures, dtype, isSwiglu });
    }
  }
  const { heads, kvHeads } = headShard(config, tpSize, place.tpRank);
  return {
    config,
    tpSize,
    dtype,
    kvDType: kvCacheDType,
    linears: [...linears.values()],
    headDim: config.headDim,
    group: sizeOf(heads) / sizeOf(kvHeads),
  };
}
