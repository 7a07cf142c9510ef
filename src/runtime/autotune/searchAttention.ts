/** The measured search for decode attention: lanes of a workgroup, how a context is split, and when it is not. */
import type { TunedNumbers } from "../../device/adapterInfo.ts";
import type { Device } from "../../device/device.ts";
import type { DeviceOpener, OpenOptions } from "../../device/opener.ts";
import {
  SPLITS_CANDIDATES,
  SPLITS_ENTRY,
  type SplitsField,
  wholeContext,
} from "../../kernels/attentionSplits.ts";
import {
  ATTENTION_CANDIDATES,
  attentionEntry,
  chooseDecodeVariant,
  chooseWholeVariant,
} from "../../kernels/attentionVariant.ts";
import { CaseMemory, rankSizes } from "../bench/kernelCase.ts";
import { decodeAttentionCase } from "../bench/otherCases.ts";
import { timeLaunches } from "../bench/timeLaunches.ts";
import { fastest, MIN_GAIN } from "./search.ts";
import type { TunableShapes } from "./shapes.ts";

const NUM_CALLS = 24;
const TIMING = { numRepeats: 3, warmUpMs: 15 };
/** A context of many splits, for lanes and workgroups; one of few, for the least size of a split. */
const LONG_CONTEXT = 8192;
const SHORT_CONTEXT = 512;
/** Sequences of a batch. */
const BATCH_SIZE = 32;
/** Keys and values that take turns where caches would hide what a step waits for. */
const COLD_BYTES = 128 << 20;
const MAX_COPIES = 64;
/** Of a shape whose contexts are split whatever their length. */
const NEVER_WHOLE = { wholeContext: 0 } as const;

/** Entries for splits and for this shape; empty ones on software adapters, which have no candidates. */
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
  const best: Record<string, number> = {};
  const lanes = await searchLanes(device, opener, open, shapes, tuned);
  if (lanes !== undefined) best["lanes"] = lanes;
  const whole = await searchWhole(device, opener, open, shapes, { ...tuned, [entry]: best });
  if (whole !== undefined) best["wholeContext"] = whole;
  return { ...tuned, [entry]: best };
}

async function searchSplits(
  device: Device,
  shapes: TunableShapes,
  field: SplitsField,
  context: number,
  splits: Readonly<Record<string, number>>,
): Promise<number | undefined> {
  const time = (value?: number): Promise<number> => {
    const numbers = value === undefined ? splits : { ...splits, [field]: value };
    const tuned = {
      [SPLITS_ENTRY]: numbers,
      [attentionEntry(shapes.headDim, shapes.group)]: NEVER_WHOLE,
    };
    return timeDecode(device, shapes, context, tuned);
  };
  return await fastest(SPLITS_CANDIDATES[field], time);
}

/** The longest context, of those tried, up to which not splitting is faster for each; undefined if it is the default. */
async function searchWhole(
  device: Device,
  opener: DeviceOpener,
  open: OpenOptions,
  shapes: TunableShapes,
  tuned: TunedNumbers,
): Promise<number | undefined> {
  const { headDim, group } = shapes;
  if (chooseWholeVariant(headDim, group, device.info) === undefined) return undefined;
  const entry = attentionEntry(headDim, group);
  const withWhole = (positions: number): TunedNumbers => ({
    ...tuned,
    [entry]: { ...tuned[entry], wholeContext: positions },
  });
  const candidates = ATTENTION_CANDIDATES.wholeContext.filter((positions) => positions > 0);
  const [first = 0] = candidates;
  let longest = 0;
  const other = await opener.open({ ...open, tuned: withWhole(first) }); // any has both kernels
  try {
    for (const positions of candidates) {
      const context = positions - 1; // and the token itself
      const split = await timeDecode(other, shapes, context, withWhole(0), 1, MAX_COPIES);
      const whole = await timeDecode(other, shapes, context, withWhole(positions), 1, MAX_COPIES);
      if (whole > split * (1 - MIN_GAIN.hardware)) break;
      longest = positions;
    }
  } finally {
    await other.destroy();
  }
  const { numHeads, numKvHeads } = rankSizes(
    shapes.config,
    shapes.tpSize,
    shapes.dtype,
    shapes.kvDType,
  );
  const usual = wholeContext(
    { numHeads, numKvHeads, headDim },
    { ...device.info, tuned: undefined },
  );
  return longest === usual ? undefined : longest;
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

/** Microseconds of decode attention and its merge, with up to `maxCopies` of keys and values in turn. */
async function timeDecode(
  device: Device,
  { config, tpSize, dtype, kvDType }: TunableShapes,
  context: number,
  tuned: TunedNumbers,
  batchSize = 1,
  maxCopies = 1,
): Promise<number> {
  const sizes = rankSizes(config, tpSize, dtype, kvDType);
  const kernelCase = decodeAttentionCase(sizes, { ...device.info, tuned }, batchSize, context);
  const memory = new CaseMemory(device);
  try {
    const numCopies = Math.min(maxCopies, Math.ceil(COLD_BYTES / kernelCase.coldBytes));
    const record = await kernelCase.prepare(memory, numCopies);
    const numCalls = Math.max(NUM_CALLS, numCopies);
    const { launchUs, numLaunches } = await timeLaunches(
      device,
      (rec) => {
        for (let call = 0; call < numCalls; call++) record(rec, call % numCopies);
      },
      { ...TIMING, live: kernelCase.live },
    );
    return (Math.min(...launchUs) * numLaunches) / numCalls;
  } finally {
    memory.free();
  }
}
