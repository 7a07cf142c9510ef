/** Models over ranks, as tests start them: on this project's adapter, in process unless said otherwise. */
import {
  DEFAULT_ENGINE_ARGS,
  type EngineArgs,
  type ExecutorKind,
} from "../../src/runtime/engineArgs.ts";
import { type LoadHooks, type StartedRanks, startRanks } from "../../src/runtime/loadModel.ts";
import { LLM } from "../../src/runtime/llm.ts";
import { DevicePool } from "./devicePool.ts";
import { testDeviceIndex } from "./gpu.ts";

/** How a test cuts a model; one rank in process where nothing is said. */
export type TestLayout = Partial<
  Pick<EngineArgs, "tpSize" | "ppSize" | "executor" | "devices" | "enableDualBatchOverlap">
>;

export interface TestModel extends StartedRanks {
  readonly llm: LLM;
}

/** Small steps: fewer and smaller lists to record than a user's. A busy machine is no failure. */
const TEST_SIZES = { maxNumSeqs: 4, maxNumBatchedTokens: 96, collectiveTimeoutMs: 120_000 };

const pool = new DevicePool();

/** The opener of every layout in this file's process; see DevicePool. */
export const testOpener: DevicePool = pool;

/** "tp 3 x pp 2, inProcess" */
export function layoutName({ tpSize = 1, ppSize = 1, executor = "inProcess" }: TestLayout): string {
  return `tp ${tpSize} x pp ${ppSize}, ${executor}`;
}

/** Arguments of a layout with f32 KV cache, as goldens and comparisons need. */
export async function testArgs(
  model: string,
  layout: TestLayout = {},
  sizes: Partial<EngineArgs> = {},
): Promise<EngineArgs> {
  const executor: ExecutorKind = "inProcess";
  return {
    ...DEFAULT_ENGINE_ARGS,
    ...TEST_SIZES,
    kvCacheDType: "f32",
    model,
    executor,
    devices: layout.devices ?? [await testDeviceIndex()],
    ...layout,
    ...sizes,
  };
}

/** Starts a model, lends it to `use`, and shuts it down, whatever happens. */
export async function withModel<T>(
  args: EngineArgs,
  use: (model: TestModel) => Promise<T>,
  hooks: LoadHooks = {},
): Promise<T> {
  const started = await startRanks(args, {}, undefined, { opener: pool, ...hooks });
  let llm: LLM | undefined;
  try {
    llm = new LLM(started.executor, started.codec);
    return await use({ ...started, llm });
  } finally {
    await (llm ?? started.executor).shutdown(); // an engine waits for its plans in flight first
  }
}
