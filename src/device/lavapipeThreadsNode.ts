/**
 * How many threads lavapipe deals the workgroups of a dispatch to. It wakes them for every dispatch and waits for them:
 * 12 µs each, 25 to 60 more for a small kernel. On two cores that is more than sharing gains; without threads
 * of its own a dispatch runs where it was submitted and costs 0.3 µs. fable-5m on 2 cores of an AMD EPYC, one
 * token, medians of several runs:
 *
 *   LP_NUM_THREADS                    2 (lavapipe's own)       1       0
 *   empty dispatch, µs                        12.5           8.4     0.3
 *   o_proj, 256 x 256, µs                       55            37      16
 *   lm_head, 4096 x 256, µs                    315           333     280
 *   decode, tp 1, tok/s                 222 to 319           240     586
 *   decode, tp 2, worker threads               118           124     145
 *   prefill of 512 tokens, tok/s      1,380 to 1,450        1,250   1,300
 */
import { isMainThread } from "node:worker_threads";

const VARIABLE = "LP_NUM_THREADS";
/** What was measured; with more cores threads gain more, at least in prefill. */
const MAX_CORES_WITHOUT_THREADS = 2;

/** What the variable should be; undefined leaves it as it is. The user's own choice stays. */
export function lavapipeThreads(
  env: Readonly<Record<string, string | undefined>>,
  numCores: number,
): string | undefined {
  if (env[VARIABLE] !== undefined || numCores > MAX_CORES_WITHOUT_THREADS) return undefined;
  return "0";
}

/**
 * For drivers that are loaded from now on. Only the main thread's `process.env` is the process's; worker
 * threads open their devices after it has listed the adapters.
 */
export function chooseLavapipeThreads(): void {
  if (!isMainThread) return;
  const wanted = lavapipeThreads(process.env, navigator.hardwareConcurrency);
  if (wanted !== undefined) process.env[VARIABLE] = wanted;
}
