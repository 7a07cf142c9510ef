/** A model behind HTTP: loads its replicas, listens, and ends without cutting anybody off. */
import { createLogger } from "../common/logger.ts";
import { listDevices } from "../runtime/devices.ts";
import type { EngineArgs, LoadEvents } from "../runtime/engineArgs.ts";
import { bestKind } from "../runtime/layout.ts";
import { loadModel } from "../runtime/loadModel.ts";
import { Tokenizer } from "../runtime/tokenizer.ts";
import { loadChatTemplate } from "./api/chatTemplate.ts";
import { GrammarFactory } from "./api/grammar.ts";
import { createApp } from "./app.ts";
import type { HttpOptions, ServerContext } from "./context.ts";
import { Listener } from "./http/listener.ts";
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

/** Loads `args` as many times as there are replicas, and serves them. The port is taken before. */
export async function startServer(
  args: EngineArgs,
  options: ServeOptions,
  events: LoadEvents = {},
): Promise<RunningServer> {
  const { chatTemplate: wanted } = options;
  const path = wanted === "plain" ? PLAIN_TEMPLATE : wanted;
  const chatTemplate = await loadChatTemplate(args.model, path);
  const listener = await Listener.open(options.host, options.port);
  try {
    return await loadAndServe(args, { options, chatTemplate, listener, events });
  } catch (error) {
    await listener.close();
    throw error;
  }
}

interface ServerDraft extends Pick<ServerParts, "options" | "chatTemplate"> {
  readonly listener: Listener;
  readonly events: LoadEvents;
}

async function loadAndServe(args: EngineArgs, draft: ServerDraft): Promise<RunningServer> {
  const { options, chatTemplate, listener, events } = draft;
  const log = createLogger("serve");
  const metrics = new ServerMetrics(options.servedModelNames[0]);
  const { maxQueue, numReplicas } = options;
  const load = await replicaLoader(args, options, events);
  const replicas = await ReplicaSet.start(numReplicas, load, { maxQueue, observer: metrics, log });
  const { codec, executor } = replicas.model;
  let made: Promise<GrammarFactory> | undefined;
  const grammars = (): Promise<GrammarFactory> =>
    (made ??= GrammarFactory.load(args.model, executor.limits.vocabSize, codec.eosTokenIds));
  const hasTokenizer = codec instanceof Tokenizer;
  const parts = { options, metrics, chatTemplate, log, grammars: hasTokenizer ? grammars : null };
  return serveReplicas(replicas, parts, listener);
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
  const own = dealt.slice(firstReplica);
  const known = new Set<number>();
  return async (index) => {
    const isFirst = !known.has(index);
    known.add(index);
    const others = own.map((list, other) => (other === index ? [] : list));
    const loaded = others.filter((_, other) => known.has(other)).flat();
    const toCome = others.filter((_, other) => !known.has(other)).flat();
    const replicaArgs = { ...args, devices: own[index] ?? null, otherCopies: { loaded, toCome } };
    return await loadModel(replicaArgs, isFirst ? events : {});
  };
}

/** What a server is made of besides its replicas. */
export interface ServerParts extends Pick<
  ServerContext,
  "metrics" | "chatTemplate" | "grammars" | "log"
> {
  readonly options: ServeOptions;
}

/** Serves replicas that are loaded already. */
export function serveReplicas(
  replicas: ReplicaSet,
  parts: ServerParts,
  listener: Listener,
): RunningServer {
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
  listener.serve(createApp(context).fetch);
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    await replicas.drain(options.drainTimeoutMs);
    await listener.close(replicas.stop()); // ends what did not end in time, so its client is told
  };
  return { url: listener.url, replicas, stop: () => (stopped ??= stop()) };
}
