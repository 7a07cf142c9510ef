/** The entry point of a rank's thread in Node. */
import { parentPort } from "node:worker_threads";
import * as Comlink from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import { nodeFiles } from "../../../models/weights/filesNode.ts";
import { attachSharedMemory } from "../../collectives/transport/sharedMemory.ts";
import { installFlightDump } from "../../collectives/watchdog/flightDumpNode.ts";
import { WorkerError } from "../../common/errors.ts";
import { NodeOpener } from "../../device/openNode.ts";
import { Worker } from "../worker.ts";
import { PlanDecoder, type WirePlan } from "./planCodec.ts";
import type { TapRecord } from "./rankHandle.ts";
import {
  serializeError,
  type SettledApi,
  settle,
  type StepMessage,
  type ThreadSetup,
} from "./rankMessages.ts";
import { StepQueue } from "./stepQueue.ts";
import { TapCollector } from "./taps.ts";

let worker: Worker | undefined;
let setup: ThreadSetup | undefined;
let outputs: StepQueue | undefined;

const api: SettledApi = {
  open: (given) =>
    settle(async () => {
      setup = given;
      outputs = new StepQueue(given.outputs);
      const transport = attachSharedMemory(given.transport, given.spec.rank);
      const env = {
        ...{ opener: new NodeOpener(), files: nodeFiles, transport, ownsThread: true },
        watch: installFlightDump,
      };
      const opened = await Worker.open(given.spec, env, reportProgress);
      worker = opened;
      worker.onFailure(fail);
      // A thread that dies with a map pending takes the process with it (Dawn aborts): this one stays
      // until the main thread, told of the error, has let it drain.
      process.on("uncaughtException", (error) => {
        fail(
          new WorkerError(`rank ${given.spec.rank}: its worker thread failed: ${error.message}`),
        );
      });
      const report = opened.report();
      const mayStop = (): boolean => opened.mayStop();
      transport.setWaiting({ computesOnCores: report.isSoftware, mayStop });
      return report;
    }),
  probeFreeBytes: (maxBytes) => settle(() => opened().probeFreeBytes(maxBytes)),
  start: (numBlocks) =>
    settle(async () => {
      const activationBytes = await opened().start(numBlocks, reportProgress);
      if (setup !== undefined) void serve(setup);
      return activationBytes;
    }),
  forwardTaps: (tokenIds, only) =>
    settle(async (): Promise<TapRecord[]> => {
      const taps = new TapCollector(only);
      await opened().forwardTaps(tokenIds, taps.sink);
      return taps.records();
    }),
  profileStep: (step) => settle(() => opened().profileStep(step)),
  stats: () => settle(() => Promise.resolve(opened().stats())),
  resetStats: () =>
    settle(() => {
      opened().resetStats();
      return Promise.resolve();
    }),
  trace: () => settle(async () => worker?.trace()),
  shutdown: () => settle(async () => worker?.shutdown()),
};

function opened(): Worker {
  if (worker === undefined) throw new WorkerError("rank: not open");
  return worker;
}

function fail(error: unknown): void {
  outputs?.push({ stepIndex: null, error: serializeError(error) } satisfies StepMessage);
}

let lastReport = 0;
/** At most 20 messages a second: each is a trip to the main thread. */
function reportProgress(phase: "weights" | "pipelines", done: number, total: number): void {
  const now = performance.now();
  if (done < total && now - lastReport < 50) return;
  lastReport = now;
  const progress = { rank: setup?.spec.rank ?? 0, phase, done, total };
  outputs?.push({ stepIndex: null, progress } satisfies StepMessage);
}

/** Runs plans as they come, several in flight; outputs go back in the order in which they end. */
async function serve({ plans }: ThreadSetup): Promise<void> {
  const incoming = new StepQueue(plans);
  const decoder = new PlanDecoder();
  for (;;) {
    const message = (await incoming.pop()) as WirePlan | undefined;
    if (message === undefined) return;
    const plan = decoder.decode(message);
    const { stepIndex } = plan;
    opened()
      .execute(plan)
      .then(
        (output): StepMessage => ({ stepIndex, output }),
        (error: unknown): StepMessage => ({ stepIndex, error: serializeError(error) }),
      )
      .then((message) => {
        outputs?.push(message);
      })
      .catch((error: unknown) => {
        throw error; // no way left to tell: the thread's death tells
      });
  }
}

if (parentPort !== null) Comlink.expose(api, nodeEndpoint(parentPort));
