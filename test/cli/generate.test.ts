import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CommandContext } from "../../src/cli/context.ts";
import { generate, type GeneratingModel } from "../../src/cli/generate.ts";
import { describeRun, runAsJson } from "../../src/cli/generateReport.ts";
import { LLM } from "../../src/runtime/llm.ts";
import type { RankStats, RunStats } from "../../src/runtime/stats.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";
import { captureContext, type CapturedStreams } from "./support/capture.ts";
import { twoRanks } from "./support/layout.ts";

const limits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 16,
  blockSize: 16,
  numBlocks: 16,
  maxModelLen: 64,
  vocabSize: 27,
  maxInFlight: 2,
};
const rankStats = (rank: number): RankStats => ({
  rank,
  numSteps: 10,
  numLaunches: 100,
  numSubmits: 100,
  encodeMs: 1,
  submitMs: 1,
  collectiveMs: 2 + rank / 10,
  collectiveOps: 120,
  collectiveBytes: 1024,
  pipelines: 9,
  compileMs: 1,
  buffers: 1,
  bindGroups: 1,
});
const stats: RunStats = { ranks: [rankStats(0), rankStats(1)], bytesPerToken: 10_000_000 };

/** A model without a GPU; its sampling is a hash of the history. */
function toyModel(): GeneratingModel & { numResets: number } {
  const executor = new SimulatedExecutor(limits);
  const model = {
    numResets: 0,
    executor,
    llm: new LLM(executor, letterCodec),
    codec: letterCodec,
    layout: twoRanks,
    generation: {
      doSample: false,
      temperature: null,
      topK: null,
      topP: null,
      minP: null,
      repetitionPenalty: null,
    },
    bandwidthGBps: () => Promise.resolve(20),
    stats: () => Promise.resolve(stats),
    resetStats: (): Promise<void> => {
      model.numResets += 1;
      return Promise.resolve();
    },
  };
  return model;
}

let context: CommandContext;
let streams: CapturedStreams;
beforeEach(() => {
  ({ context, streams } = captureContext());
});
afterEach(() => {
  context.stop.dispose();
});

describe("generate", () => {
  test("streams the completion alone, ended by a line break, and counts steps from the first token", async () => {
    const model = toyModel();
    const run = await generate(model, "abc", { maxTokens: 5, ignoreEos: true, seed: 3 }, context);
    expect(streams.stdout.text).toBe(`${run.text}\n`);
    expect(run.promptTokenIds).toEqual([1, 2, 3]);
    expect(run.tokenIds).toHaveLength(5);
    expect(run.finishReason).toBe("length");
    expect(model.numResets).toBe(1);
  });

  test("repeats a text prompt on a terminal", async () => {
    const terminal = captureContext(true);
    const flags = { maxTokens: 3, ignoreEos: true } as const;
    const { text } = await generate(toyModel(), "abc", flags, terminal.context);
    terminal.context.stop.dispose();
    expect(terminal.streams.stdout.text).toMatch(/abc/);
    expect(terminal.streams.stdout.text.endsWith(`${text}\n`)).toBe(true);
  });

  test("with --json streams nothing", async () => {
    await generate(toyModel(), [1, 2], { maxTokens: 3, json: true }, context);
    expect(streams.stdout.text).toBe("");
  });

  test("the default length is what the context leaves", async () => {
    const run = await generate(toyModel(), [1, 2, 3], { ignoreEos: true }, context);
    expect(run.tokenIds).toHaveLength(limits.maxModelLen - 3);
  });

  test("a reader of stdout that leaves ends it", async () => {
    const generation = generate(toyModel(), [1, 2], { ignoreEos: true }, context);
    streams.stdout.emit("error", Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
    const run = await generation;
    expect(run.finishReason).toBe("abort");
    expect(run.bandwidthGBps).toBeNull();
    expect(context.stop.exitCode).toBe(0);
  });
});

describe("report", () => {
  const run = {
    text: "de",
    promptTokenIds: [1, 2, 3],
    tokenIds: [4, 5],
    finishReason: "length",
    timings: {
      arrivalMs: 1960,
      scheduledMs: 1960,
      firstTokenMs: 2000,
      lastTokenMs: 2020,
      queueMs: 0,
      ttftMs: 40,
      tpotMs: 20,
    },
    decodeStats: stats,
    bandwidthGBps: 2,
    bubbleFraction: 0.25,
    loadMs: 1234,
    load: {
      beginMs: 300,
      filesMs: 9,
      adaptersMs: 51,
      devicesMs: 100,
      weightsMs: 400,
      weightBytes: 600_000_000,
      pipelinesMs: 1000,
    },
    layout: twoRanks,
  } as const;

  test("JSON", () => {
    expect(runAsJson(run)).toMatchObject({
      text: "de",
      prompt_token_ids: [1, 2, 3],
      token_ids: [4, 5],
      finish_reason: "length",
      usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
      timings: {
        load_ms: 1234,
        cold_start: { total_ms: 2000, process_ms: 300, files_ms: 9, rest_ms: 100 },
        ttft_ms: 40,
        tpot_ms: 20,
        decode_tok_per_s: 50,
        decode_gb_per_s: 0.5,
        device_gb_per_s: 2,
        mbu: 0.25,
        collective_ms_per_token: 2.1,
        collective_bytes_per_token: 2048,
      },
      layout: {
        tp: 2,
        pp: 1,
        executor: "inProcess",
        devices: [{ rank: 0, index: 0 }, { rank: 1 }],
      },
    });
  });

  test("lines", () => {
    expect(describeRun(run)).toBe(
      [
        "3 + 2 tokens, ended by length; loaded in 1,230 ms",
        "first token 2,000 ms after the process's start: Node and modules 300, adapters 51, devices 100, " +
          "weights 400 (1.5 GB/s), pipelines 1,000, first step 40, rest 100",
        "TTFT 40 ms",
        "decode 50 tok/s = 0.5 GB/s of weights, 25 % of 2 GB/s measured",
        "collectives 2.1 ms of 20 ms a token, 2,050 bytes",
      ].join("\n"),
    );
  });

  test("devices of one stage read at once; those of the next stage wait", () => {
    const ranks = twoRanks.ranks.map((rank, deviceIndex) => ({ ...rank, deviceIndex }));
    const parallel = runAsJson({ ...run, layout: { ...twoRanks, ranks } });
    expect(parallel).toMatchObject({ timings: { mbu: 0.125 } });
    const staged = ranks.map((rank) => ({ ...rank, ppRank: rank.rank }));
    const serial = runAsJson({ ...run, layout: { ...twoRanks, ranks: staged } });
    expect(serial).toMatchObject({ timings: { mbu: 0.25 } });
  });

  test("one token has no rate", () => {
    const timings = { ...run.timings, tpotMs: null };
    const short = { ...run, timings, tokenIds: [4] };
    expect(runAsJson(short)).toMatchObject({ timings: { decode_tok_per_s: null, mbu: null } });
    expect(describeRun(short)).not.toContain("decode");
  });
});
