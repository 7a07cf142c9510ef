/** `serve`: an OpenAI-compatible HTTP server. */
import { basename } from "node:path";
import { type Command, Option } from "commander";
import { UsageError } from "../common/errors.ts";
import type { RunningServer, ServeOptions } from "../server/server.ts";
import type { CommandContext } from "./context.ts";
import { addModelFlags, flag, type ModelFlags } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import type { ToolCallParser } from "../server/api/toolCalls.ts";
import { formatFigure } from "./table.ts";
import { oneOf, wholeNumber } from "./values.ts";

export interface ServeFlags extends ModelFlags {
  readonly host: string;
  readonly port?: number;
  readonly servedModelName?: readonly string[];
  readonly apiKey?: readonly string[];
  readonly chatTemplate?: string;
  readonly allowedOrigins?: readonly string[];
  readonly maxQueue: number;
  readonly maxRequestBytes: number;
  readonly drainTimeout: number;
  readonly enableAutoToolChoice?: true;
  readonly toolCallParser?: ToolCallParser;
  readonly dataParallelSize?: number;
  readonly dataParallelSizeLocal?: number;
  readonly dataParallelStartRank?: number;
  readonly dataParallelRank?: number;
}

const DEFAULT_PORT = 8000;
const API_KEY_VARIABLE = "TANDEM_API_KEY";
/** Batches are what a server is for; a single prompt's 8 would waste the GPU. */
const DEFAULT_MAX_NUM_SEQS = 32;

/** Adds the command to the program. */
export function addServe(program: Command, context: CommandContext): void {
  const command = program
    .command("serve")
    .summary("serve a model over HTTP, with OpenAI's API")
    .description(
      "Serves /v1/completions, /v1/chat/completions and more, and a live page at /. Ctrl-C lets the requests that run end.",
    );
  addServerFlags(command);
  addParallelFlags(command);
  addModelFlags(command);
  command.action(async (flags: ServeFlags) => {
    const args = { ...engineArgs(flags), maxNumSeqs: flags.maxNumSeqs ?? DEFAULT_MAX_NUM_SEQS };
    const options = serveOptions(flags, args.model);
    await ensureAdapter();
    const { startServer } = await import("../server/server.ts");
    const display = showLoading(context.stderr, false);
    const server = await startServer(args, options, display.events).finally(display.stop);
    const graceMs = options.drainTimeoutMs + 10_000;
    await context.stop.guard(async () => {
      context.say(`Serving ${options.servedModelNames.join(", ")} at ${server.url}`);
      await aborted(context.stop.signal);
      context.say("Stopping: requests that run may end; Ctrl-C again kills them.");
      describeBubble(server, args.ppSize, context);
      await server.stop();
    }, graceMs);
  });
}

/** With stages: how much of them stood idle, replica by replica. */
export function describeBubble(
  { replicas }: RunningServer,
  ppSize: number,
  context: CommandContext,
): void {
  if (ppSize === 1) return;
  for (const { index, model } of replicas.replicas) {
    const percent = formatFigure(model.llm.engine.stats.bubbleFraction * 100);
    context.say(`replica ${index}: pipeline bubble ${percent} % of all stage-steps`);
  }
}

function addServerFlags(command: Command): void {
  const count = wholeNumber({ min: 1 });
  const options = [
    new Option("--host <address>", "address to listen on").default("127.0.0.1"),
    flag(
      "--port <n>",
      `port; 0 for any (default: ${DEFAULT_PORT})`,
      wholeNumber({ min: 0, max: 65_535 }),
    ),
    new Option(
      "--served-model-name <name...>",
      "the model's names in requests (default: its folder's)",
    ),
    new Option("--api-key <key...>", `keys of which requests need one (or ${API_KEY_VARIABLE})`),
    new Option(
      "--chat-template <file>",
      "a Jinja file, or plain: messages as lines (default: the model's)",
    ),
    new Option(
      "--allowed-origins <origin...>",
      "origins whose pages may call the server; * for all",
    ),
    new Option("--enable-auto-tool-choice", "read tool calls out of what the model writes"),
    flag(
      "--tool-call-parser <format>",
      "how it writes them: hermes (Qwen too) or llama3_json",
      oneOf(["hermes", "llama3_json"]),
    ),
    flag("--max-queue <n>", "requests that may wait before new ones get a 429", count).default(256),
    flag("--max-request-bytes <n>", "size of a request's body", count).default(4 << 20),
    flag(
      "--drain-timeout <seconds>",
      "for requests that run at the end",
      wholeNumber({ min: 0 }),
    ).default(30),
  ];
  for (const option of options) command.addOption(option.helpGroup("Server:"));
}

function addParallelFlags(command: Command): void {
  const [count, rank] = [wholeNumber({ min: 1 }), wholeNumber({ min: 0 })];
  const options = [
    flag(
      "--dp, --data-parallel-size <n>",
      "copies of the model, each on ranks of its own (default: 1)",
      count,
    ),
    flag(
      "--data-parallel-rank <n>",
      "serve only this copy, at port + n: for a load balancer of your own",
      rank,
    ),
    flag("--data-parallel-size-local <n>", "copies that this process runs (default: all)", count),
    flag(
      "--data-parallel-start-rank <n>",
      "the first copy that this process runs (default: 0)",
      rank,
    ),
  ];
  for (const option of options) command.addOption(option.helpGroup("Data parallelism:"));
}

/** The flags as the server takes them; exported for tests. */
export function serveOptions(flags: ServeFlags, model: string): ServeOptions {
  const [first, ...rest] = flags.servedModelName ?? [];
  const fromEnvironment = process.env[API_KEY_VARIABLE];
  const { host, maxQueue, maxRequestBytes } = flags;
  return {
    host,
    port: flags.port ?? DEFAULT_PORT + (flags.dataParallelRank ?? 0),
    servedModelNames: [first ?? basename(model), ...rest],
    apiKeys: flags.apiKey ?? (fromEnvironment ? [fromEnvironment] : []),
    allowedOrigins: flags.allowedOrigins ?? [],
    maxRequestBytes,
    maxQueue,
    chatTemplate: flags.chatTemplate,
    drainTimeoutMs: flags.drainTimeout * 1000,
    toolCallParser: toolCallParser(flags),
    ...replicasOf(flags),
  };
}

/** vLLM's pair of flags, of which neither does anything alone. */
function toolCallParser(flags: ServeFlags): ToolCallParser | null {
  const { enableAutoToolChoice: isEnabled = false, toolCallParser: parser } = flags;
  if (isEnabled === (parser !== undefined)) return parser ?? null;
  throw new UsageError({
    what: isEnabled ? "--enable-auto-tool-choice" : "--tool-call-parser",
    expected: `${isEnabled ? "--tool-call-parser" : "--enable-auto-tool-choice"} with it`,
    got: "none",
  });
}

function replicasOf(flags: ServeFlags): Pick<ServeOptions, "numReplicas" | "firstReplica"> {
  const { dataParallelRank: rank, dataParallelSizeLocal, dataParallelStartRank } = flags;
  const size = flags.dataParallelSize ?? 1;
  const firstReplica = rank ?? dataParallelStartRank ?? 0;
  const numReplicas = rank === undefined ? (dataParallelSizeLocal ?? size - firstReplica) : 1;
  if (numReplicas >= 1 && firstReplica + numReplicas <= size) return { numReplicas, firstReplica };
  throw new UsageError({
    what: "data parallel ranks",
    expected: `some of 0 to ${size - 1} (--data-parallel-size ${size})`,
    got: `${numReplicas} from ${firstReplica} on`,
    remedy: "raise --data-parallel-size",
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
