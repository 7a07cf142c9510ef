/** The whole server over simulated executors: real HTTP and a real tokenizer, but no GPU. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { DEMO_MODEL } from "../../../src/cli/modelArgs.ts";
import { createLogger } from "../../../src/common/logger.ts";
import { LLM } from "../../../src/runtime/llm.ts";
import { Tokenizer } from "../../../src/runtime/tokenizer.ts";
import type { ExecutorLimits } from "../../../src/runtime/executor/executor.ts";
import { ChatTemplate } from "../../../src/server/api/chatTemplate.ts";
import { GrammarFactory } from "../../../src/server/api/grammar.ts";
import { Listener } from "../../../src/server/http/listener.ts";
import { ServerMetrics } from "../../../src/server/observe/metrics.ts";
import { ReplicaSet } from "../../../src/server/replicas/replicaSet.ts";
import type { ServedModel } from "../../../src/server/replicas/servedModel.ts";
import {
  type RunningServer,
  type ServeOptions,
  serveReplicas,
} from "../../../src/server/server.ts";
import { SimulatedExecutor, type SimulatedFaults } from "../../support/simulatedExecutor.ts";

export const limits: ExecutorLimits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  blockSize: 16,
  numBlocks: 64,
  maxModelLen: 256,
  vocabSize: 4096,
  maxInFlight: 2,
};

const readJson = (name: string): unknown =>
  JSON.parse(readFileSync(join(DEMO_MODEL, name), "utf8")) as unknown;
export const tokenizer = new Tokenizer(
  readJson("tokenizer.json"),
  readJson("tokenizer_config.json"),
  [1],
);

const TEMPLATE =
  "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if tools %}[tools]{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}[assistant]{% endif %}";

export interface SimulatedSetup {
  readonly options?: Partial<ServeOptions>;
  readonly numReplicas?: number;
  /** Of each load, by replica and how often it was loaded before. */
  readonly faults?: (replicaIndex: number, numLoads: number) => SimulatedFaults;
  readonly restartDelaysMs?: readonly number[];
  readonly hasChatTemplate?: boolean;
  readonly limits?: Partial<ExecutorLimits>;
}

export interface SimulatedServer extends RunningServer {
  readonly client: OpenAI;
  /** Every block of every replica is free, and nothing waits or runs. */
  isIdle(): boolean;
}

function simulatedModel(faults: SimulatedFaults, changed: Partial<ExecutorLimits>): ServedModel {
  const executor = new SimulatedExecutor({ ...limits, ...changed }, faults);
  const scheduler = { schedulingPolicy: "priority" } as const;
  const llm = new LLM(executor, tokenizer, { scheduler });
  const range = { begin: 0, end: 1 };
  const rank = { rank: 0, tpRank: 0, ppRank: 0, deviceIndex: 0, deviceName: "simulated" };
  const ranges = { layers: range, heads: range, kvHeads: range, vocab: range };
  return {
    llm,
    executor,
    codec: tokenizer,
    numKvBlocks: executor.limits.numBlocks,
    generation: {
      doSample: null,
      temperature: null,
      topK: null,
      topP: null,
      minP: null,
      repetitionPenalty: null,
    },
    layout: {
      tpSize: 1,
      ppSize: 1,
      executor: "inProcess",
      model: "simulated",
      dtype: "f32",
      kvCacheDType: "f32",
      maxModelLen: executor.limits.maxModelLen,
      ranks: [{ ...rank, ...ranges, isVirtual: false, weightBytes: 1 }],
    },
    stats: () => Promise.resolve({ ranks: [], bytesPerToken: 1 }),
    shutdown: () => llm.shutdown(),
  };
}

const quiet = createLogger("serve", { level: "silent" });

export async function startSimulated(setup: SimulatedSetup = {}): Promise<SimulatedServer> {
  const numLoads = new Map<number, number>();
  const load = (index: number): Promise<ServedModel> => {
    const before = numLoads.get(index) ?? 0;
    numLoads.set(index, before + 1);
    return Promise.resolve(simulatedModel(setup.faults?.(index, before) ?? {}, setup.limits ?? {}));
  };
  const options: ServeOptions = {
    host: "127.0.0.1",
    port: 0,
    servedModelNames: ["sim"],
    apiKeys: [],
    allowedOrigins: [],
    maxRequestBytes: 100_000,
    maxQueue: 64,
    numReplicas: setup.numReplicas ?? 1,
    firstReplica: 0,
    chatTemplate: undefined,
    drainTimeoutMs: 5000,
    toolCallParser: null,
    ...setup.options,
  };
  const metrics = new ServerMetrics("sim");
  const { maxQueue } = options;
  const restartDelaysMs = setup.restartDelaysMs ?? [0];
  const replicas = await ReplicaSet.start(options.numReplicas, load, {
    maxQueue,
    observer: metrics,
    restartDelaysMs,
  });
  const special = { bos_token: "<|begin_of_text|>" };
  const chatTemplate =
    setup.hasChatTemplate === false ? null : new ChatTemplate(TEMPLATE, special, "template");
  const grammars = (): Promise<GrammarFactory> =>
    GrammarFactory.load(DEMO_MODEL, limits.vocabSize, tokenizer.eosTokenIds);
  const parts = { options, metrics, chatTemplate, grammars, log: quiet };
  const listener = await Listener.open(options.host, options.port);
  const server = serveReplicas(replicas, parts, listener);
  const baseURL = `${server.url}/v1`;
  const client = new OpenAI({ baseURL, apiKey: options.apiKeys[0] ?? "none", maxRetries: 0 });
  const isIdle = (): boolean =>
    replicas.replicas.every(({ model }) => {
      const stats = model.llm.engine.stats;
      return stats.numRunning + stats.numWaiting + stats.numUsedBlocks === 0;
    });
  return { ...server, client, isIdle };
}

/** POSTs JSON as it is given, valid or not. */
export async function post(
  server: RunningServer,
  path: string,
  body: unknown,
  init: RequestInit = {},
): Promise<Response> {
  return await fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
  });
}

/** Requests that ended by being aborted, as the metrics count them. */
export async function numAborted(server: RunningServer): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/request_success_total\{.*"abort"\} (\d+)/.exec(metrics)?.[1] ?? 0);
}

/** Waits for what must come to be true; fails after `timeoutMs`. */
export async function until(holds: () => boolean, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`did not hold within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
