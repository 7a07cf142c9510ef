/** `--autotune`: the numbers that each rank's kernels use, from the cache or measured now. */
import type { WeightDType } from "../../common/dtype.ts";
import { createLogger } from "../../common/logger.ts";
import type { TunedNumbers } from "../../device/adapterInfo.ts";
import type { AdapterInfo } from "../../device/device.ts";
import { NodeOpener } from "../../device/openNode.ts";
import { SPLITS_ENTRY } from "../../kernels/attentionSplits.ts";
import { attentionEntry } from "../../kernels/attentionVariant.ts";
import { versions } from "../bench/versionsNode.ts";
import type { RankSpec } from "../rankSpec.ts";
import type { AutotuneMode } from "./autotuneMode.ts";
import { searchLinear } from "./search.ts";
import { searchAttention } from "./searchAttention.ts";
import { tunableShapes, type TunableShapes } from "./shapes.ts";
import {
  type CacheNote,
  readTuning,
  tuningFolder,
  type TuningKey,
  writeTuning,
} from "./tuningCacheNode.ts";

export interface AutotuneOptions {
  readonly mode: AutotuneMode;
  /** Of the weights on the devices. */
  readonly dtype: WeightDType;
  /** Where files are kept; the user's cache folder when left out. */
  readonly folder?: string;
  readonly note?: CacheNote;
}

/** The specs with the numbers of their devices. A device is measured once, for the shapes of all its ranks. */
export async function tuneRanks(
  specs: readonly RankSpec[],
  adapters: readonly AdapterInfo[],
  options: AutotuneOptions,
): Promise<readonly RankSpec[]> {
  if (options.mode === "off") return specs;
  const tuned = new Map<number, TunedNumbers>();
  for (const [index, ranks] of Map.groupBy(specs, ({ deviceIndex }) => deviceIndex)) {
    const adapter = adapters[index];
    if (adapter !== undefined) tuned.set(index, await tuneDevice(adapter, ranks, options));
  }
  return specs.map((spec) => ({ ...spec, tuned: tuned.get(spec.deviceIndex) }));
}

async function tuneDevice(
  adapter: AdapterInfo,
  ranks: readonly RankSpec[],
  { mode, dtype, folder = tuningFolder(), note }: AutotuneOptions,
): Promise<TunedNumbers> {
  const logger = createLogger("autotune");
  const say = note ?? ((message: string): void => logger.warn(message));
  const key = keyOf(adapter, ranks[0]?.disableRobustness === true);
  const known = await readTuning(folder, key, say);
  if (mode === "cached") return known;
  const begin = performance.now();
  const limit = adapter.limits.maxStorageBufferBindingSize;
  const shapes = ranks.map((spec) => tunableShapes(spec, dtype, limit));
  const found = await searchMissing(ranks, shapes, known);
  const count = Object.keys(found).length;
  if (count === 0) return known;
  const tuned = { ...known, ...found };
  await writeTuning(folder, key, tuned, say);
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  logger.info(`${adapter.name}: ${count} entries measured in ${seconds} s`);
  return tuned;
}

/** The checks of bounds change which number is fastest; on software adapters they are always on. */
function keyOf(
  { name, description, isSoftware }: AdapterInfo,
  disableRobustness: boolean,
): TuningKey {
  const robustness = disableRobustness && !isSoftware ? "off" : "on";
  return { adapter: name, driver: description, dawn: versions().dawn, robustness };
}

async function searchMissing(
  ranks: readonly RankSpec[],
  shapes: readonly TunableShapes[],
  known: TunedNumbers,
): Promise<TunedNumbers> {
  const [rank] = ranks;
  if (rank === undefined) return {};
  const linears = new Map(shapes.flatMap((each) => each.linears).map((one) => [one.entry, one]));
  const missing = [...linears.values()].filter(({ entry }) => known[entry] === undefined);
  const attention = shapes.find(
    ({ headDim, group }) =>
      known[attentionEntry(headDim, group)] === undefined || known[SPLITS_ENTRY] === undefined,
  );
  if (missing.length === 0 && attention === undefined) return {};
  const opener = new NodeOpener();
  const { deviceIndex: index, disableRobustness } = rank;
  const open = { index, label: "autotune", disableRobustness };
  const device = await opener.open(open);
  try {
    const found: Record<string, Readonly<Record<string, number>>> = {};
    for (const shape of missing) found[shape.entry] = await searchLinear(device, shape);
    const rest =
      attention === undefined ? {} : await searchAttention(device, opener, open, attention);
    return { ...found, ...rest };
  } finally {
    await device.destroy();
  }
}
