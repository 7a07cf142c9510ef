/** Times one operation on all ranks of a world, which must repeat it equally often. */
import type { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import { median } from "../../common/math.ts";

const MIN_REPEATS = 2;
const MAX_REPEATS = 5000;
/** Batches whose median counts: other work on the machine spoils some of them. */
const MAX_BATCHES = 20;

export interface Timing {
  readonly medianUs: number;
  /** Of the first call, which is not counted: what a longer one may take is told from it. */
  readonly firstUs: number;
}

/**
 * Back-to-back calls in batches, as in nccl-tests: a root that need not wait for its readers pays for
 * them in the next call. The median batch of the slowest rank counts; the same on every rank.
 */
export async function timeTogether(
  control: HostCommunicator,
  budgetMs: number,
  run: () => Promise<unknown>,
): Promise<Timing> {
  const firstUs = await timed(run);
  const [estimateUs] = await control.broadcast(Float64Array.of(await timed(run)), 0);
  const budgetUs = 1000 * budgetMs;
  const wanted = Math.floor(budgetUs / Math.max(estimateUs ?? budgetUs, 0.1));
  const repeats = Math.max(MIN_REPEATS, Math.min(MAX_REPEATS, wanted));
  const numBatches = Math.min(MAX_BATCHES, repeats);
  const perBatch = Math.floor(repeats / numBatches);
  await control.barrier();
  const batches: number[] = [];
  for (let batch = 0; batch < numBatches; batch++) {
    batches.push((await timed(() => repeat(perBatch, run))) / perBatch);
  }
  const medians = await control.allGather(Float32Array.of(median(batches)));
  return { medianUs: Math.max(...medians), firstUs };
}

async function repeat(times: number, run: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < times; i++) await run();
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await run();
  return 1000 * (performance.now() - begin);
}
