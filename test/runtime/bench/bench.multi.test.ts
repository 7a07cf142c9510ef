/** Every benchmark runs and fills its report; what the figures are is for benchmarks to say. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { benchDecode } from "../../../src/runtime/bench/decode.ts";
import { FAMILIES } from "../../../src/runtime/bench/kernelCase.ts";
import { benchKernels } from "../../../src/runtime/bench/kernels.ts";
import { benchLatency } from "../../../src/runtime/bench/latency.ts";
import { benchLoad } from "../../../src/runtime/bench/load.ts";
import { benchPrefill } from "../../../src/runtime/bench/prefill.ts";
import type { BenchReport } from "../../../src/runtime/bench/report.ts";
import { benchThroughput } from "../../../src/runtime/bench/throughput.ts";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../../../src/runtime/engineArgs.ts";
import { testDeviceIndex } from "../../support/gpu.ts";

const once = { warmUp: 0, repeats: 1 };

async function args(): Promise<EngineArgs> {
  return {
    ...DEFAULT_ENGINE_ARGS,
    model: join(import.meta.dirname, "../../fixtures/llama-gqa-tied"),
    executor: "inProcess",
    devices: [await testDeviceIndex()],
    maxModelLen: 64,
    maxNumSeqs: 4,
    maxNumBatchedTokens: 8, // two token classes: few pipelines to compile
  };
}

/** Every figure of a row that is a number is finite, and what `filled` names is above 0. */
function expectRows(report: BenchReport, numRows: number, filled: readonly string[]): void {
  expect(report.rows).toHaveLength(numRows);
  for (const row of report.rows) {
    for (const [key, value] of Object.entries(row)) {
      if (typeof value === "number") expect(Number.isFinite(value), `${key}: ${value}`).toBe(true);
    }
    for (const key of filled) expect(Number(row[key]), key).toBeGreaterThan(0);
  }
  for (const { key } of report.columns) {
    expect(
      report.rows.some((row) => Object.hasOwn(row, key)),
      `column ${key}`,
    ).toBe(true);
  }
  const { readGBps, fmaTflops, dispatchUs } = report.ceilings;
  expect(Math.min(readGBps, fmaTflops, dispatchUs)).toBeGreaterThan(0);
}

test("kernels: every family, with a bound", async () => {
  const families = [...FAMILIES];
  const workloads = { families, tokens: [1, 64], contexts: [5], repeats: 1 };
  const report = await benchKernels(await args(), workloads);
  expectRows(report, 18, ["time_us", "bound_us", "bytes", "launches"]);
  expect(new Set(report.rows.map((row) => row["family"]))).toEqual(new Set(families));
});

test("decode and prefill: a row a workload, with MBU and MFU", async () => {
  const decode = await benchDecode(await args(), {
    ...once,
    promptLengths: [4, 6],
    batchSizes: [1, 5], // more than maxNumSeqs
    outputLength: 3,
  });
  expectRows(decode, 4, ["tok_per_s", "bound_tok_per_s", "mbu_percent", "mfu_percent"]);
  const prefill = await benchPrefill(await args(), { ...once, promptLengths: [8, 20] });
  expectRows(prefill, 2, ["tok_per_s", "bound_tok_per_s", "mbu_percent", "mfu_percent"]);
});

test("load: stages and rates, the files' bytes read alone as well", async () => {
  const report = await benchLoad(await args(), { repeats: 1, promptLength: 4 });
  expectRows(report, 1, ["weights_ms", "weights_gb_per_s", "read_gb_per_s", "total_ms"]);
});

test("latency and throughput: percentiles, MBU and MFU", async () => {
  const lengths = { promptLengths: [4], batchSizes: [2], outputLength: 3 };
  const latency = await benchLatency(await args(), { ...lengths, ...once });
  expectRows(latency, 1, ["latency_ms_p99", "ttft_ms_p50", "tpot_ms_p50", "mbu_percent"]);
  const throughput = await benchThroughput(await args(), {
    ...once,
    numPrompts: 6, // more than maxNumSeqs
    promptLength: 8,
    outputLength: 4,
    rangeRatio: 0.5,
    seed: 1,
  });
  expectRows(throughput, 1, ["output_tok_per_s", "steps", "mbu_percent", "mfu_percent"]);
});
