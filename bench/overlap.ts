/**
 * What dual-batch overlap gains: steps with and without it, over links of growing latency.
 *
 *   node bench/overlap.ts [--model DIR] [--tp 2] [--latencies 0,1,2,5] [--bandwidth GB/s] [--devices 0]
 *                         [--executors inProcess,workerThreads] [--batches 8,64] [--prompt-len 24]
 *                         [--tokens 16] [--repeats 5] [--max-num-batched-tokens 128] [--load-format dummy]
 *                         [--profile PREFIX]
 *
 * A table for people, then one line of JSON. A link delays every message between ranks (SimulatedLink;
 * timers have a resolution of 1 ms). Both ways run in turns, so that other work on the machine slows both
 * down alike; the best of the repeats counts. `bound` is the most that overlap could gain: with work W of a batch and W' of a half (steps at
 * latency 0) and waiting L, it takes at least max(2 W', W' + L) in place of W + L.
 * --profile writes a trace of each case: PREFIX-inProcess-64-2ms-on.json and so on.
 */
import { parseArgs } from "node:util";
import { median } from "../src/common/math.ts";
import {
  DEFAULT_ENGINE_ARGS,
  type EngineArgs,
  type ExecutorKind,
} from "../src/runtime/engineArgs.ts";
import { type LoadedModel, loadModel } from "../src/runtime/loadModel.ts";
import { TraceFile } from "../src/runtime/trace/traceFileNode.ts";

const { values } = parseArgs({
  options: {
    model: {
      type: "string",
      default: new URL("../models/checkpoints/fable-5m", import.meta.url).pathname,
    },
    tp: { type: "string", default: "2" },
    latencies: { type: "string", default: "0,1,2,5" },
    bandwidth: { type: "string" },
    devices: { type: "string" },
    executors: { type: "string", default: "inProcess,workerThreads" },
    batches: { type: "string", default: "8,64" },
    "prompt-len": { type: "string", default: "24" },
    tokens: { type: "string", default: "16" },
    repeats: { type: "string", default: "5" },
    "max-num-batched-tokens": { type: "string" },
    "load-format": { type: "string", default: "auto" },
    profile: { type: "string" },
  },
});
const batchedTokens = values["max-num-batched-tokens"];
const numbers = (list: string): number[] => list.split(",").map(Number);
const [promptLength, numTokens, repeats] = [
  Number(values["prompt-len"]),
  Number(values.tokens),
  Number(values.repeats),
];

/** Fastest and median of the repeats: other work on the machine only ever slows a run down. */
interface Spread {
  readonly best: number;
  readonly median: number;
}

/** One way of running, measured a few times; milliseconds. */
interface Rate {
  readonly prefill: Spread;
  readonly step: Spread;
}

interface Row {
  readonly executor: ExecutorKind;
  readonly batchSize: number;
  readonly latencyMs: number;
  readonly off: Rate;
  readonly on: Rate;
  readonly prefillGain: number;
  readonly decodeGain: number;
  readonly decodeBound: number;
  readonly isSameText: boolean;
}

interface Run {
  readonly prefillMs: number;
  readonly stepMs: number;
  readonly text: string;
}

async function runOnce(
  { llm, config }: LoadedModel,
  batchSize: number,
  seed: number,
): Promise<Run> {
  const prompts = Array.from({ length: batchSize }, (_, sequence) =>
    Array.from(
      { length: promptLength },
      (_t, i) => (97 * sequence + 31 * i + 7 * seed) % config.vocabSize,
    ),
  );
  const sampling = { temperature: 0, maxTokens: numTokens, ignoreEos: true };
  const beginMs = performance.now();
  const completions = await llm.generateAll(prompts, sampling);
  const firstMs = Math.max(...completions.map(({ timings }) => timings.firstTokenMs ?? 0));
  const lastMs = Math.max(...completions.map(({ timings }) => timings.lastTokenMs ?? 0));
  const text = completions.map(({ tokenIds }) => tokenIds.join()).join(";");
  return { prefillMs: firstMs - beginMs, stepMs: (lastMs - firstMs) / (numTokens - 1), text };
}

async function load(
  executor: ExecutorKind,
  batchSize: number,
  latencyMs: number,
  isOn: boolean,
): Promise<LoadedModel> {
  const { profile, bandwidth } = values;
  const path = `${profile ?? ""}-${executor}-${batchSize}-${latencyMs}ms-${isOn ? "on" : "off"}.json`;
  const link = {
    latencyMs,
    ...(bandwidth === undefined ? {} : { bandwidthGBps: Number(bandwidth) }),
  };
  const args: EngineArgs = {
    ...DEFAULT_ENGINE_ARGS,
    model: values.model,
    tpSize: Number(values.tp),
    devices: values.devices === undefined ? null : numbers(values.devices),
    executor,
    maxNumSeqs: batchSize,
    maxNumBatchedTokens: batchedTokens === undefined ? null : Number(batchedTokens),
    kvCacheDType: "f32",
    loadFormat: values["load-format"] === "dummy" ? "dummy" : "auto",
    maxModelLen: Math.max(256, promptLength + numTokens),
    enableDualBatchOverlap: isOn,
    simulatedLink: latencyMs === 0 && bandwidth === undefined ? null : link,
    profile: profile === undefined ? null : new TraceFile(path),
  };
  return await loadModel(args);
}

function spreadOf(times: readonly number[]): Spread {
  return { best: Math.min(...times), median: median(times) };
}

function rateOf(runs: readonly Run[]): Rate {
  return {
    prefill: spreadOf(runs.map(({ prefillMs }) => prefillMs)),
    step: spreadOf(runs.map(({ stepMs }) => stepMs)),
  };
}

/** Both ways in turns, after a turn to warm up. */
async function measure(
  executor: ExecutorKind,
  batchSize: number,
  latencyMs: number,
): Promise<Omit<Row, "decodeBound"> & { readonly device: string; readonly numHops: number }> {
  const off = await load(executor, batchSize, latencyMs, false);
  const on = await load(executor, batchSize, latencyMs, true).catch(async (error: unknown) => {
    await off.shutdown();
    throw error;
  });
  try {
    const [offRuns, onRuns]: [Run[], Run[]] = [[], []];
    for (let seed = 0; seed <= repeats; seed++) {
      const [offRun, onRun] = [
        await runOnce(off, batchSize, seed),
        await runOnce(on, batchSize, seed),
      ];
      if (seed === 0) continue;
      offRuns.push(offRun);
      onRuns.push(onRun);
    }
    const [offRate, onRate] = [rateOf(offRuns), rateOf(onRuns)];
    return {
      executor,
      batchSize,
      latencyMs,
      off: offRate,
      on: onRate,
      prefillGain: offRate.prefill.best / onRate.prefill.best,
      decodeGain: offRate.step.best / onRate.step.best,
      isSameText: offRuns.every(({ text }, i) => text === onRuns[i]?.text),
      device: off.layout.ranks[0]?.deviceName ?? "",
      // two all-reduces a layer, the candidates' gather, and the tokens' broadcast
      numHops: 2 * off.config.numLayers + 2,
    };
  } finally {
    // The last tokens are still on their way to the other ranks.
    await new Promise((resolve) => setTimeout(resolve, 10 * latencyMs + 50));
    await off.shutdown();
    await on.shutdown();
  }
}

/** A row as soon as it is measured: a run that is cut short has told what it found. */
function print({ executor, batchSize, latencyMs, off, on, ...row }: Row): void {
  const spread = ({ best, median: middle }: Spread): string =>
    `${best.toFixed(1)} (${middle.toFixed(1)})`.padStart(16);
  const gain = (value: number): string => value.toFixed(2).padStart(7);
  const start = `${executor.padEnd(14)} ${String(batchSize).padStart(5)} ${String(latencyMs).padStart(8)}`;
  const decode = `${spread(off.step)}${spread(on.step)}${gain(row.decodeGain)}${gain(row.decodeBound)}`;
  const prefill = `${spread(off.prefill)}${spread(on.prefill)}${gain(row.prefillGain)}`;
  console.log(`${start} |${decode} |${prefill} | ${row.isSameText ? "yes" : "no"}`);
}

const budget = batchedTokens === undefined ? "" : `, ${batchedTokens} tokens a step`;
const title = `${values.model}, tp ${values.tp}, ${promptLength} + ${numTokens} tokens${budget}`;
console.log(`${title}; milliseconds, best of ${repeats} (median)`);
console.log(
  "executor       batch  latency |        step off         step on   gain  bound |     prefill off      prefill on   gain | same text",
);
const rows: Row[] = [];
let device = "";
for (const executor of values.executors.split(",") as ExecutorKind[]) {
  for (const batchSize of numbers(values.batches)) {
    let [workMs, halvesMs] = [Number.NaN, Number.NaN];
    for (const latencyMs of numbers(values.latencies)) {
      const { numHops, ...measured } = await measure(executor, batchSize, latencyMs);
      device = measured.device;
      if (latencyMs === 0) [workMs, halvesMs] = [measured.off.step.best, measured.on.step.best];
      const waitMs = numHops * latencyMs;
      const decodeBound = (workMs + waitMs) / Math.max(halvesMs, halvesMs / 2 + waitMs);
      const row = { ...measured, decodeBound };
      rows.push(row);
      print(row);
    }
  }
}
const workload = { promptLength, numTokens, repeats, tp: Number(values.tp) };
console.log(JSON.stringify({ benchmark: "overlap", device, ...workload, rows }));
