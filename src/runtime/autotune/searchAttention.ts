/** The measured search for decode attention: lanes of a workgroup, and how a context is split. */
import type { TunedNumbers } from "../../device/adapterInfo.ts";
import type { Device } from "../../device/device.ts";
import type { DeviceOpener, OpenOptions } from "../../device/opener.ts";
import {
  ATTENTION_CANDIDATES,
  attentionEntry,
  type AttentionField,
  chooseDecodeVariant,
  SPLITS_ENTRY,
} from "../../kernels/attentionVariant.ts";
import { CaseMemory, rankSizes } from "../bench/kernelCase.ts";
import { decodeAttentionCase } from "../bench/otherCases.ts";
import { timeLaunches } from "../bench/timeLaunches.ts";
import { fastest } from "./search.ts";
import type { TunableShapes } from "./shapes.ts";

const NUM_CALLS = 24;
const TIMING = { numRepeats: 3, warmUpMs: 15 };
/** A context of many splits, for lanes and workgroups; one of few, for the least size of a split. */
const LONG_CONTEXT = 8192;
const SHORT_CONTEXT = 512;
/** Sequences of a batch. */
const BATCH_SIZE = 32;

/** Entries for splits and for this shape's lanes; empty ones on software adapters, which have no candidates. */
export async function searchAttention(
  device: Device,
  opener: DeviceOpener,
  open: OpenOptions,
  shapes: TunableShapes,
): Promise<TunedNumbers> {
  const entry = attentionEntry(shapes.headDim, shapes.group);
  if (device.info.isSoftware) return { [SPLITS_ENTRY]: {}, [entry]: {} };
  const splits: Record<string, number> = {};
  const fields = [
    ["workgroups", LONG_CONTEXT],
    ["minSplitSize", SHORT_CONTEXT],
  ] as const;
  for (const [field, context] of fields) {
    const best = await searchSplits(device, shapes, field, context, splits);
    if (best !== undefined) splits[field] = best;
  }
  const tuned = { [SPLITS_ENTRY]: splits };
  const lanes = await searchLanes(device, opener, open, shapes, tuned);
  return { ...tuned, [entry]: lanes === undefined ? {} : { lanes } };
}

async function searchSplits(
  device: Device,
  shapes: TunableShapes,
  field: Exclude<AttentionField, "lanes">,
  context: number,
  splits: Readonly<Record<string, number>>,
): Promise<number | undefined> {
  const time = (value?: number): Promise<number> => {
    const numbers = value === undefined ? splits : { ...splits, [field]: value };
    return timeDecode(device, shapes, context, { [SPLITS_ENTRY]: numbers });
  };
  return await fastest(ATTENTION_CANDIDATES[field], time);
}

/** Each candidate is a device of its own: the kernel reads its device's info. */
async function searchLanes(
  device: Device,
  opener: DeviceOpener,
  open: OpenOptions,
  shapes: TunableShapes,
  tuned: TunedNumbers,
): Promise<number | undefined> {
  const { headDim, group } = shapes;
  const entry = attentionEntry(headDim, group);
  const usual = chooseDecodeVariant(headDim, group, { ...device.info, tuned: undefined });
  const others = ATTENTION_CANDIDATES.lanes.filter((lanes) => {
    const variant = chooseDecodeVariant(headDim, group, {
      ...device.info,
      tuned: { [entry]: { lanes } },
    });
    return variant.kind === "subgroup" && variant.lanes !== usual.lanes;
  });
  const time = async (lanes?: number): Promise<number> => {
    if (lanes === undefined) return await timeBoth(device, shapes, tuned);
    const other = await opener.open({ ...open, tuned: { ...tuned, [entry]: { lanes } } });
    try {
      return await timeBoth(other, shapes, tuned);
    } finally {
      await other.destroy();
    }
  };
  return await fastest(others, time);
}

/**
 * One figure for a long sequence and for a batch, the geometric mean: on an H200, 128 lanes in place of 256 took 5 %
 * off the one and added 18 % to the other (headDim 128).
 */
async function timeBoth(
  device: Device,
  shapes: TunableShapes,
  tuned: TunedNumbers,
): Promise<number> {
  const single = await timeDecode(device, shapes, LONG_CONTEXT, tuned);
  return Math.sqrt(single * (await timeDecode(device, shapes, SHORT_CONTEXT, tuned, BATCH_SIZE)));
}

/** Microseconds of decode attention and its merge. */
async function timeDecode(
  device: Device,
  { config, tpSize, dtype, kvDType }: TunableShapes,
  context: number,
  tuned: TunedNumbers,
  batchSize = 1,
): Promise<number> {
  const sizes = rankSizes(config, tpSize, dtype, kvDType);
  const kernelCase = decodeAttentionCase(sizes, { ...device.info, tuned }, batchSize, context);
  const memory = new CaseMemory(device);
  try {
    const record = await kernelCase.prepare(memory, 1);
    const { launchUs, numLaunches } = await timeLaunches(
      device,
      (rec) => {
        for (let call = 0; call < NUM_CALLS; call++) record(rec, 0);
      },
      { ...TIMING, live: kernelCase.live },
    );
    return (Math.min(...launchUs) * numLaunches) / NUM_CALLS;
  } finally {
    memory.free();
  }
}
