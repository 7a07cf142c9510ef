import { isAbsolute } from "node:path";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import {
  addModelFlags,
  addPromptFlags,
  addSamplingFlags,
  type ModelFlags,
  type PromptFlags,
  type SamplingFlags,
  samplingOptions,
} from "../../src/cli/flags.ts";
import { DEMO_MODEL, engineArgs, givenPrompt, requiredPrompt } from "../../src/cli/modelArgs.ts";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../../src/runtime/engineArgs.ts";

const COLLECTIVES = DEFAULT_ENGINE_ARGS.collectives;

type Flags = ModelFlags & SamplingFlags & PromptFlags;

function parse(...argv: string[]): Flags {
  const command = new Command().exitOverride();
  addSamplingFlags(addModelFlags(addPromptFlags(command)), "200");
  return command.parse(argv, { from: "user" }).opts<Flags>();
}

describe("engine arguments", () => {
  const cases: [string[], Partial<EngineArgs>][] = [
    [["--model", "some/dir"], { model: "some/dir" }],
    [["--tp", "2"], { tpSize: 2 }],
    [["--tensor-parallel-size", "3"], { tpSize: 3 }],
    [["--tensor-parallel-size=3"], { tpSize: 3 }],
    [["--pp", "4"], { ppSize: 4 }],
    [["--pipeline-parallel-size", "5"], { ppSize: 5 }],
    [["--devices", "0,1"], { devices: [0, 1] }],
    [["--executor", "inProcess"], { executor: "inProcess" }],
    [["--executor", "worker-threads"], { executor: "workerThreads" }],
    [["--executor", "in-process"], { executor: "inProcess" }],
    [["--dtype", "bf16"], { dtype: "bf16" }],
    [["--dtype", "float16"], { dtype: "f16" }],
    [["--dtype", "float32"], { dtype: "f32" }],
    [["--dtype", "bfloat16"], { dtype: "bf16" }],
    [["--kv-cache-dtype", "f32"], { kvCacheDType: "f32" }],
    [["--load-format", "dummy"], { loadFormat: "dummy" }],
    [["--max-model-len", "100"], { maxModelLen: 100 }],
    [["--max-num-seqs", "3"], { maxNumSeqs: 3 }],
    [["--max-num-batched-tokens", "64"], { maxNumBatchedTokens: 64 }],
    [["--gpu-memory-utilization", "0.5"], { gpuMemoryUtilization: 0.5 }],
    [["--kv-cache-memory-mib", "64"], { kvCacheMemoryMiB: 64 }],
    [["--enable-prefix-caching"], { scheduler: { enablePrefixCaching: true } }],
    [["--no-enable-prefix-caching"], { scheduler: { enablePrefixCaching: false } }],
    [["--scheduling-policy", "priority"], { scheduler: { schedulingPolicy: "priority" } }],
    [["--max-num-partial-prefills", "2"], { scheduler: { maxNumPartialPrefills: 2 } }],
    [["--long-prefill-token-threshold", "64"], { scheduler: { longPrefillTokenThreshold: 64 } }],
    [["--num-scheduler-steps", "1"], { numSchedulerSteps: 1 }],
    [["--collective-timeout", "0.5"], { collectiveTimeoutMs: 500 }],
    [["--collective-algorithm", "ring"], { collectives: { ...COLLECTIVES, algorithm: "ring" } }],
    [["--collective-wire-dtype", "q8"], { collectives: { ...COLLECTIVES, wire: "q8" } }],
    [["--collective-wire-dtype", "float16"], { collectives: { ...COLLECTIVES, wire: "f16" } }],
    [
      ["--collective-wire-from", "65536"],
      { collectives: { ...COLLECTIVES, wireFromBytes: 65_536 } },
    ],
    [["--disable-robustness"], { disableRobustness: true }],
    [["--no-disable-robustness"], { disableRobustness: false }],
    [["--autotune", "full"], { autotune: "full" }],
  ];
  test.each(cases)("%j", (argv, expected) => {
    expect(engineArgs(parse(...argv))).toEqual({
      ...DEFAULT_ENGINE_ARGS,
      model: DEMO_MODEL,
      ...expected,
    });
  });

  test.each([
    ["nothing is named", [], 2],
    ["a model is named", ["--model", "x"], 1],
    ["stages are named", ["--pp", "2"], 1],
    ["ranks are named", ["--tp", "1"], 1],
  ])("the demo's own tpSize where %s", (_where, argv, tpSize) => {
    expect(engineArgs(parse(...argv), 2).tpSize).toBe(tpSize);
  });

  test("the demo model does not depend on the working directory", () => {
    expect(isAbsolute(DEMO_MODEL)).toBe(true);
  });
});

describe("sampling", () => {
  const silent = {
    doSample: null,
    temperature: null,
    topK: null,
    topP: null,
    minP: null,
    repetitionPenalty: null,
  };
  const creative = { ...silent, temperature: 0.6, topK: 20, topP: 0.95, repetitionPenalty: 1.1 };

  test("without flags or recommendation everything is the runtime's", () => {
    const options = Object.values(samplingOptions(parse(), silent));
    expect(options.filter((value) => value !== undefined)).toEqual([]);
  });

  test("the checkpoint's recommendation is taken", () => {
    expect(samplingOptions(parse(), creative)).toMatchObject({
      temperature: 0.6,
      topK: 20,
      topP: 0.95,
      repetitionPenalty: 1.1,
    });
  });

  test("do_sample false is greedy, whatever the temperature", () => {
    const greedy = { ...creative, doSample: false };
    expect(samplingOptions(parse(), greedy).temperature).toBe(0);
    expect(samplingOptions(parse("--temperature", "0.5"), greedy).temperature).toBe(0.5);
  });

  test("every flag wins", () => {
    const argv =
      "--temperature 0 --top-k 5 --top-p 0.5 --min-p 0.1 --repetition-penalty 1.2 " +
      "--presence-penalty -0.5 --frequency-penalty 0.25 --seed 7 --ignore-eos";
    expect(samplingOptions(parse(...argv.split(" ")), creative)).toEqual({
      temperature: 0,
      topK: 5,
      topP: 0.5,
      minP: 0.1,
      repetitionPenalty: 1.2,
      presencePenalty: -0.5,
      frequencyPenalty: 0.25,
      seed: 7,
      ignoreEos: true,
    });
  });
});

describe("prompt", () => {
  test("a text, ids, or nothing", () => {
    expect(givenPrompt("Once", {})).toBe("Once");
    expect(givenPrompt("", {})).toBe("");
    expect(givenPrompt(undefined, parse("--prompt-ids", "1,2"))).toEqual([1, 2]);
    expect(givenPrompt(undefined, {})).toBeUndefined();
  });

  test("both or, where it is needed, neither are refused", () => {
    expect(() => givenPrompt("Once", { promptIds: [1] })).toThrow(/prompt: expected .* got both/);
    expect(() => requiredPrompt(undefined, {})).toThrow(/prompt: expected .* got neither/);
  });
});
