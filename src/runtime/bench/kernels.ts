/** Time of each kernel family at a model's sizes, beside what its bytes and operations allow. */
import { median, quantile } from "../../common/math.ts";
import type { Device } from "../../device/device.ts";
import { NodeOpener } from "../../device/openNode.ts";
import { tuneRanks } from "../autotune/autotuneNode.ts";
import { listDevices } from "../devices.ts";
import type { EngineArgs } from "../engineArgs.ts";
import { resolveLayout } from "../layout.ts";
import { type OpenedModel, openModel } from "../openModelNode.ts";
import { type Ceilings, measureCeilings, peakTflops } from "./ceilings.ts";
import {
  CaseMemory,
  type Family,
  type KernelCase,
  rankSizes,
  type RankSizes,
} from "./kernelCase.ts";
import { linearCases } from "./linearCases.ts";
import { decodeAttentionCase, prefillAttentionCase, smallCases } from "./otherCases.ts";
import type { RankSpec } from "../rankSpec.ts";
import { type BenchReport, type Fields, robustnessOf } from "./report.ts";
import { timeLaunches } from "./timeLaunches.ts";
import { versions } from "./versionsNode.ts";

export interface KernelWorkloads {
  readonly families: readonly Family[];
  /** Tokens of a step. Decode attention takes those up to 256 as sequences, prefill those from 64 on as a prompt. */
  readonly tokens: readonly number[];
  /** Positions before the token of decode attention. */
  readonly contexts: readonly number[];
  readonly repeats: number;
}

const COLUMNS = [
  { key: "family", title: "family" },
  { key: "name", title: "call" },
  { key: "tokens", title: "tokens" },
  { key: "context", title: "context" },
  { key: "time_us", title: "µs" },
  { key: "time_us_min", title: "min" },
  { key: "time_us_max", title: "max" },
  { key: "bound_us", title: "bound µs" },
  { key: "bound_percent", title: "of bound %" },
  { key: "gb_per_s", title: "GB/s" },
  { key: "mbu_percent", title: "MBU %" },
  { key: "tflops", title: "TFLOP/s" },
  { key: "mfu_percent", title: "MFU %" },
  { key: "launches", title: "launches" },
] as const;

/** Calls in a row read other copies of their weights, together more than any cache holds. */
const COLD_BYTES = 256 << 20;
const MAX_COPIES = 64;
/** Calls of one timing: enough for the clock, and for each copy to be used. */
const NUM_CALLS = { software: 1, hardware: 32 } as const;
const CASE_WARM_UP_MS = 30;

/** Times rank 0's share of the layout on its device; loads no model. `onCase` is told what comes next. */
export async function benchKernels(
  args: EngineArgs,
  workloads: KernelWorkloads,
  onCase: (name: string) => void = () => undefined,
): Promise<BenchReport> {
  const opened = await openModel(args);
  const { spec, storedDType } = opened;
  const { tpSize, disableRobustness } = args;
  const dtype = args.dtype === "auto" ? storedDType : args.dtype;
  const kvDType = args.kvCacheDType === "auto" ? "f16" : args.kvCacheDType;
  const sizes = rankSizes(spec.config, tpSize, dtype, kvDType);
  const { deviceIndex: index, tuned } = await firstRank(args, opened);
  const ceilings = await measureCeilings(index, disableRobustness);
  const open = { index, label: "kernels", disableRobustness, tuned };
  const device = await new NodeOpener().open(open);
  const rows: Fields[] = [];
  try {
    for (const kernelCase of casesOf(sizes, workloads, device)) {
      onCase(`${kernelCase.family} ${kernelCase.name}, ${kernelCase.tokens} tokens`);
      rows.push(await measure(device, kernelCase, ceilings, workloads.repeats));
    }
  } finally {
    await device.destroy();
  }
  const settings = {
    device: device.info.name,
    driver: device.info.description,
    ...versions(),
    tp: tpSize,
    dtype,
    kv_cache_dtype: kvDType,
    robustness: robustnessOf(args, device.info),
    autotune: args.autotune,
  };
  const report = { benchmark: "kernels", model: args.model, settings, ceilings, columns: COLUMNS };
  return { ...report, rows, kernels: [], layout: null };
}

/** Rank 0 of the layout, with the numbers that its kernels would use. */
async function firstRank(
  args: EngineArgs,
  { spec, storedDType }: OpenedModel,
): Promise<Pick<RankSpec, "deviceIndex" | "tuned">> {
  const adapters = await listDevices();
  const { specs, report } = resolveLayout(args, spec, storedDType, adapters);
  const options = { mode: args.autotune, dtype: report.dtype };
  const [first] = await tuneRanks(specs.slice(0, 1), adapters, options);
  return first ?? { deviceIndex: 0 };
}

function casesOf(
  sizes: RankSizes,
  { families, tokens, contexts }: KernelWorkloads,
  { info }: Device,
): KernelCase[] {
  const all = [
    ...linearCases(sizes, tokens),
    ...tokens
      .filter((count) => count <= 256)
      .flatMap((count) => contexts.map((at) => decodeAttentionCase(sizes, info, count, at))),
    ...tokens.filter((count) => count >= 64).map((count) => prefillAttentionCase(sizes, count)),
    ...tokens.flatMap((count) => smallCases(sizes, count)),
  ];
  return all.filter(({ family }) => families.includes(family));
}

async function measure(
  device: Device,
  kernelCase: KernelCase,
  ceilings: Ceilings,
  repeats: number,
): Promise<Fields> {
  const { family, name, tokens, context, coldBytes, live } = kernelCase;
  const { info } = device;
  const identity = { family, name, tokens, context };
  const isTooLarge =
    family === "attention" && coldBytes / 2 > info.limits.maxStorageBufferBindingSize;
  if (isTooLarge) return { ...identity, skipped: "a layer's keys exceed a storage binding" };
  const memory = new CaseMemory(device);
  try {
    const wanted = info.isSoftware || coldBytes === 0 ? 1 : Math.ceil(COLD_BYTES / coldBytes);
    const numCopies = Math.min(MAX_COPIES, wanted);
    const record = await kernelCase.prepare(memory, numCopies);
    const numCalls = Math.max(numCopies, info.isSoftware ? NUM_CALLS.software : NUM_CALLS.hardware);
    const { launchUs, numLaunches } = await timeLaunches(
      device,
      (rec) => {
        for (let call = 0; call < numCalls; call++) record(rec, call % numCopies);
      },
      { live, numRepeats: repeats, warmUpMs: CASE_WARM_UP_MS },
    );
    const launches = numLaunches / numCalls;
    const callUs = launchUs.map((us) => us * launches);
    return { ...identity, launches, ...figures(kernelCase, callUs, ceilings) };
  } finally {
    memory.free();
  }
}

function figures(
  { bytes, flops }: KernelCase,
  callUs: readonly number[],
  ceilings: Ceilings,
): Fields {
  const timeUs = median(callUs);
  const boundUs = Math.max(bytes / (ceilings.readGBps * 1e3), flops / (peakTflops(ceilings) * 1e6));
  const gbPerS = bytes / (timeUs * 1e3);
  const tflops = flops / (timeUs * 1e6);
  return {
    time_us: timeUs,
    time_us_min: quantile(callUs, 0),
    time_us_max: quantile(callUs, 1),
    bound_us: boundUs,
    bound_percent: (100 * boundUs) / timeUs,
    bytes,
    flops,
    gb_per_s: gbPerS,
    mbu_percent: (100 * gbPerS) / ceilings.readGBps,
    tflops,
    mfu_percent: (100 * tflops) / peakTflops(ceilings),
  };
}
