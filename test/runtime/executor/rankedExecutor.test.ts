/** The executor over ranks that do nothing: when it waits for which of them. */
import { expect, test } from "vitest";
import { builtinConfig } from "../../../models/config/builtin.ts";
import type { AdapterInfo } from "../../../src/device/device.ts";
import { DEFAULT_ENGINE_ARGS } from "../../../src/runtime/engineArgs.ts";
import type { RankHandle } from "../../../src/runtime/executor/rankHandle.ts";
import { RankedExecutor } from "../../../src/runtime/executor/rankedExecutor.ts";
import { resolveLayout } from "../../../src/runtime/layout.ts";
import type { RankReport } from "../../../src/runtime/rankSpec.ts";
import type { StepOutput } from "../../../src/runtime/stepPlan.ts";

const model = "Llama-3.2-1B";
const config = builtinConfig(model);
const spec = { dir: null, config, loadFormat: "dummy", dtype: "auto" } as const;
const args = { ...DEFAULT_ENGINE_ARGS, model, tpSize: 2, devices: [0, 0], kvCacheMemoryMiB: 64 };
const adapters = [{ name: "Toy CPU", isSoftware: true } as AdapterInfo];
const { run } = resolveLayout(args, spec, "bf16", adapters);
const plan = { stepIndex: 0, sequences: [], dependsOnStep: -1 };

/** A rank whose steps end when they are told to. */
class IdleRank implements RankHandle {
  readonly rank: number;
  readonly step = Promise.withResolvers<StepOutput | null>();
  isShutDown = false;
  #listener: (error: Error) => void = () => undefined;

  constructor(rank: number) {
    this.rank = rank;
  }

  open(): Promise<RankReport> {
    const names = { rank: this.rank, deviceName: "Toy CPU", deviceIndex: 0, isSoftware: true };
    const counts = { multipliesHalves: false, numRanksOnDevice: 2, numRanksToCome: 0 };
    const bytes = { weightBytes: 1, activationBytes: 1, kvBlockBytes: 1024, maxBindingBlocks: 1e6 };
    return Promise.resolve({ ...names, ...counts, ...bytes, deviceMs: 0, weightsMs: 0 });
  }

  probeFreeBytes = (): Promise<number> => Promise.resolve(0);
  start = (): Promise<number> => Promise.resolve(1);
  execute = (): Promise<StepOutput | null> => this.step.promise;
  forwardTaps = (): Promise<never> => Promise.reject(new Error("no taps"));
  profileStep = (): Promise<never> => Promise.reject(new Error("no profile"));
  stats = (): Promise<never> => Promise.reject(new Error("no stats"));
  resetStats = (): Promise<void> => Promise.resolve();
  trace = (): Promise<undefined> => Promise.resolve(undefined);
  abort = (): void => undefined;

  shutdown(): Promise<void> {
    this.isShutDown = true;
    return Promise.resolve();
  }

  onFailure(listener: (error: Error) => void): void {
    this.#listener = listener;
  }

  fail(error: Error): void {
    this.#listener(error);
  }
}

interface Started {
  readonly ranks: readonly [IdleRank, IdleRank];
  readonly executor: RankedExecutor;
  readonly output: Promise<StepOutput>;
}

async function startStep(): Promise<Started> {
  const ranks = [new IdleRank(0), new IdleRank(1)] as const;
  const executor = await RankedExecutor.start(ranks, run, config.vocabSize);
  return { ranks, executor, output: executor.execute(plan) };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("no rank is shut down while another still runs a step that the sampling rank has ended", async () => {
  const { ranks, executor, output } = await startStep();
  ranks[0].step.resolve({ stepIndex: 0, tokenIds: [] });
  await output;
  const stopped = executor.shutdown();
  await turn();
  expect(ranks.map(({ isShutDown }) => isShutDown)).toEqual([false, false]);
  ranks[1].step.resolve(null);
  await stopped;
  expect(ranks.map(({ isShutDown }) => isShutDown)).toEqual([true, true]);
});

test("after a failure nobody waits for a step that may never end", async () => {
  const { ranks, executor, output } = await startStep();
  ranks[1].fail(new Error("rank 1: gone"));
  await expect(output).rejects.toThrow("gone");
  const stopped = executor.shutdown();
  await turn();
  expect(ranks.map(({ isShutDown }) => isShutDown)).toEqual([true, true]);
  await stopped;
});
