/** A model behind HTTP: loads its replicas, listens, and ends without cutting anybody off. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { UsageError } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import { listDevices } from "../runtime/devices.ts";
import type { EngineArgs, LoadEvents } from "../runtime/engineArgs.ts";
import { bestKind } from "../runtime/layout.ts";
import { loadModel } from "../runtime/loadModel.ts";
import { Tokenizer } from "../runtime/tokenizer.ts";
import { loadChatTemplate } from "./api/chatTemplate.ts";
import { GrammarFactory } from "./api/grammar.ts";
import { UNSUPPORTED } from "./api/sampling.ts";
import { createApp } from "./app.ts";
import type { HttpOptions, ServerContext } from "./context.ts";
import { ServerMetrics } from "./observe/metrics.ts";
import { watchReplicas } from "./observe/replicaMetrics.ts";
import { StatusFeed } from "./observe/status.ts";
import { dealReplicaDevices } from "./replicas/replicaDevices.ts";
import { ReplicaSet, type ReplicaSetOptions } from "./replicas/replicaSet.ts";
import type { LoadReplica } from "./replicas/servedModel.ts";

export interface ServeOptions extends HttpOptions, Pick<ReplicaSetOptions, "maxQueue"> {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  /** Replicas that this process runs. */
  readonly numReplicas: number;
  /** Number of this process's first replica among all processes'. */
  readonly firstReplica: number;
  /** A file, or `plain`; undefined for the model's own. */
  readonly chatTemplate: string | undefined;
  /** How long requests that run may take to end once the server is told to stop. */
  readonly drainTimeoutMs: number;
}

export interface RunningServer {
  /** As http://127.0.0.1:8000 */
  readonly url: string;
  readonly replicas: ReplicaSet;
  /** Refuses new requests, lets those that run end, then frees everything; safe to call twice. */
  stop(): Promise<void>;
}

const PLAIN_TEMPLATE = new URL("templates/plain.jinja", import.meta.url).pathname;

/** Loads `args` as many times as there are replicas, and serves them. */
export async function startServer(
  args: EngineArgs,
  options: ServeOptions,
  events: LoadEvents = {},
): Promise<RunningServer> {
  const log = createLogger("serve");
  const { chatTemplate: wanted } = options;
  const path = wanted === "plain" ? PLAIN_TEMPLATE : wanted;
  const chatTemplate = await loadChatTemplate(args.model, path);
  const metrics = new ServerMetrics(options.servedModelNames[0]);
  const { maxQueue, numReplicas } = options;
  const replicas = await ReplicaSet.start(numReplicas, await replicaLoader(args, options, events), {
    maxQueue,
    observer: metrics,
    log,
  });
  const { model } = replicas;
  let grammars: Promise<GrammarFactory> | undefined;
  const loadGrammars = (): Promise<GrammarFactory> =>
    (grammars ??= GrammarFactory.load(
      args.model,
      model.executor.limits.vocabSize,
      model.codec.eosTokenIds,
    ));
  const parts = { options, metrics, chatTemplate, log, unsupported: UNSUPPORTED };
  try {
    const hasTokenizer = model.codec instanceof Tokenizer;
    return await serveReplicas(replicas, {
      ...parts,
      grammars: hasTokenizer ? loadGrammars : null,
    });
  } catch (error) {
    await replicas.stop();
    throw error;
  }
}

/** Progress is shown for the first load of each replica only: a restart happens while others serve. */
async function replicaLoader(
  args: EngineArgs,
  { numReplicas, firstReplica }: ServeOptions,
  events: LoadEvents,
): Promise<LoadReplica> {
  const numRanks = args.tpSize * args.ppSize;
  const devices = args.devices ?? bestKind(await listDevices());
  const dealt = dealReplicaDevices(devices, numRanks, firstReplica + numReplicas);
  const loaded = new Set<number>();
  return async (index) => {
    const isFirst = !loaded.has(index);
    loaded.add(index);
    const replicaArgs = { ...args, devices: dealt[firstReplica + index] ?? null };
    return await loadModel(replicaArgs, isFirst ? events : {});
  };
}

/** What a server is made of besides its replicas. */
export interface ServerParts extends Pick<
  ServerContext,
  "metrics" | "chatTemplate" | "grammars" | "unsupported" | "log"
> {
  readonly options: ServeOptions;
}

/** Serves replicas that are loaded already. */
export async function serveReplicas(
  replicas: ReplicaSet,
  parts: ServerParts,
): Promise<RunningServer> {
  const { options, metrics, chatTemplate } = parts;
  watchReplicas(metrics, replicas);
  const [modelName] = options.servedModelNames;
  const hasChatTemplate = chatTemplate !== null;
  const context: ServerContext = {
    ...parts,
    replicas,
    status: new StatusFeed({ modelName, hasChatTemplate, replicas, metrics }),
    startedS: Math.floor(Date.now() / 1000),
  };
  const app = createApp(context);
  const server = createServer((request, response) => void listener(request, response));
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const { port } = await listen(server, options);
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopped ??= stopServer(server, replicas, options));
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return { url: `http://${host}:${port}`, replicas, stop };
}

async function listen(server: Server, { host, port }: ServeOptions): Promise<AddressInfo> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === "EADDRINUSE";
      const [expected, got] = ["a free port", `${port} on ${host}, which is in use`];
      reject(isTaken ? new UsageError({ what: "--port", expected, got }) : error);
    });
    server.listen(port, host, resolve);
  });
  return server.address() as AddressInfo;
}

async function stopServer(
  server: Server,
  replicas: ReplicaSet,
  { drainTimeoutMs }: ServeOptions,
): Promise<void> {
  await replicas.drain(drainTimeoutMs);
  const closed = new Promise((resolve) => server.close(resolve));
  await replicas.stop(); // ends what did not end in time, so its client is told
  server.closeIdleConnections();
  setTimeout(() => {
    server.closeAllConnections(); // followers of /status/stream would stay for ever
  }, 100);
  await closed;
}
