/** Runs a prompt on one device and on a layout, and compares what every block computed. */
import type { ModelConfig } from "../../models/config.ts";
import type { EngineArgs, LayoutReport, LoadEvents } from "./engineArgs.ts";
import type { TapRecord } from "./executor/rankHandle.ts";
import { type LoadHooks, type StartedRanks, startRanks } from "./loadModel.ts";
import { checkPromptIds } from "./request.ts";
import { compareTaps, type TapComparison } from "./verifyTaps.ts";

/**
 * Layouts differ by rounding only, well under this part of a tap's root mean square: where linear layers
 * multiply f32; and on tensor cores, which take f16 activations. There a sum that another order of its
 * terms rounds to the next f16 is 2^-11 of the largest values off: up to 1.4e-2 on H100s, and 1e-3 in logits.
 * A wrong shard is off by about 1.
 */
const RTOL = { f32: 1e-3, f16: 3e-2 } as const;

export interface VerifyOptions {
  /** Largest error allowed, as a part of the reference tap's root mean square; see RTOL. */
  readonly rtol?: number;
  /** Changes what the layout's ranks do; for tests that plant faults. */
  readonly hooks?: LoadHooks;
}

/** The first tap that diverges. */
export interface Divergence {
  readonly tap: string;
  /** null outside the layers. */
  readonly layer: number | null;
  /** The rank that is wrong, where one alone is. */
  readonly rank: number | null;
  /** The collective between the last right tap and this one, if any. */
  readonly collective: string | null;
  readonly maxAbsError: number;
  readonly maxRelError: number;
  readonly message: string;
}

export interface VerifyReport {
  readonly ok: boolean;
  /** The largest error that counted as equal. */
  readonly rtol: number;
  readonly numTaps: number;
  readonly first: Divergence | null;
  readonly taps: readonly TapComparison[];
  readonly layout: LayoutReport;
}

/** The KV cache is f32 unless a dtype is given. */
export async function verifyLayout(
  args: EngineArgs,
  promptIds: readonly number[],
  { rtol: asked, hooks }: VerifyOptions = {},
  events: LoadEvents = {},
): Promise<VerifyReport> {
  const kvCacheDType = args.kvCacheDType === "auto" ? "f32" : args.kvCacheDType;
  const check = (limits: Parameters<typeof checkPromptIds>[1]): void => {
    checkPromptIds(promptIds, limits);
  };
  const started = await startRanks({ ...args, kvCacheDType }, events, check, hooks);
  const ranks = await tapsOf(started, promptIds);
  const { config, resolved } = started;
  const first = resolved.specs[0]?.deviceIndex ?? 0;
  const single: EngineArgs = {
    ...args,
    kvCacheDType,
    tpSize: 1,
    ppSize: 1,
    devices: [first],
    executor: "inProcess",
  };
  const opener = hooks?.opener;
  const unhooked = opener === undefined ? {} : { opener };
  const alone = await startRanks(single, {}, undefined, unhooked);
  const [reference = []] = await tapsOf(alone, promptIds);
  const taps = compareTaps(config, resolved.run, reference, ranks);
  const { reports } = started.executor;
  const rtol = asked ?? RTOL[reports.some((rank) => rank.multipliesHalves) ? "f16" : "f32"];
  const wrong = taps.find((tap) => !(tap.maxRelError <= rtol));
  const divergence = wrong === undefined ? null : describe(wrong, rtol, config);
  const ok = divergence === null;
  return { ok, rtol, numTaps: taps.length, first: divergence, taps, layout: resolved.report };
}

async function tapsOf(
  { executor }: StartedRanks,
  promptIds: readonly number[],
): Promise<readonly (readonly TapRecord[])[]> {
  try {
    return await executor.forwardTaps(promptIds);
  } finally {
    await executor.shutdown();
  }
}

function describe(wrong: TapComparison, rtol: number, config: ModelConfig): Divergence {
  const { name, ranks, maxAbsError, maxRelError } = wrong;
  const bad = ranks.filter((rank) => !(rank.maxRelError <= rtol));
  const isShared = name.endsWith(".residual");
  const onlyRank = bad.length === 1 ? (bad[0]?.rank ?? null) : null;
  // A residual follows an all-reduce (or a hop between stages); the shards before it were right.
  const collective = isShared ? collectiveOf(name, wrong) : null;
  const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
  const where = layer === undefined ? "" : ` in layer ${layer} of ${config.numLayers}`;
  const who = `rank${bad.length === 1 ? "" : "s"} ${bad.map(({ rank }) => rank).join(", ")}`;
  const how = collective === null ? "" : `, after ${collective}`;
  const size = `max abs error ${maxAbsError.toExponential(2)}, ${maxRelError.toExponential(2)} of the tap's RMS`;
  return {
    tap: name,
    layer: layer === undefined ? null : Number(layer),
    rank: onlyRank,
    collective,
    maxAbsError,
    maxRelError,
    message: `${name} diverges${where} on ${who}${how}: ${size}`,
  };
}

/** What moved the data of a residual tap: a hop where only the receiving stage is wrong, else the all-reduce. */
function collectiveOf(name: string, { received }: TapComparison): string {
  const block = name.slice(0, -".residual".length);
  return received ? "recv residual (pp)" : `allReduce ${block} (tp)`;
}
