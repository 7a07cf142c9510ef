/** What every route of one server works with. */
import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { Tokenizer } from "../runtime/tokenizer.ts";
import type { ChatTemplate } from "./api/chatTemplate.ts";
import type { GrammarFactory } from "./api/grammar.ts";
import type { ToolCallParser } from "./api/toolCalls.ts";
import { ApiError, badRequest, toApiError } from "./http/apiError.ts";
import type { ServerMetrics } from "./observe/metrics.ts";
import type { StatusFeed } from "./observe/status.ts";
import type { ReplicaSet } from "./replicas/replicaSet.ts";

/** What whoever starts a server chooses about its HTTP side. */
export interface HttpOptions {
  /** The model's names in requests; the first one is in answers. */
  readonly servedModelNames: readonly [string, ...string[]];
  /** Keys that open /v1, /tokenize, /detokenize and /status; empty opens them to all. */
  readonly apiKeys: readonly string[];
  /** Origins whose pages may call this server: `*` for all, empty for none but its own. */
  readonly allowedOrigins: readonly string[];
  readonly maxRequestBytes: number;
  /** How the model writes tool calls when it chooses to; null leaves them in its text. */
  readonly toolCallParser: ToolCallParser | null;
}

export interface ServerContext {
  readonly options: HttpOptions;
  readonly replicas: ReplicaSet;
  readonly chatTemplate: ChatTemplate | null;
  /** Made the first time it is needed; null where the model has no tokenizer. */
  readonly grammars: (() => Promise<GrammarFactory>) | null;
  readonly metrics: ServerMetrics;
  readonly status: StatusFeed;
  readonly log: Logger;
  /** Seconds since 1970 when the server started. */
  readonly startedS: number;
}

/** The name that answers carry; a 404 unless the request names this model, or none. */
export function servedModel({ options }: ServerContext, wanted: string | null | undefined): string {
  const { servedModelNames: names } = options;
  if (wanted === null || wanted === undefined || wanted === "") return names[0];
  if (names.includes(wanted)) return wanted;
  throw new ApiError({
    status: 404,
    type: "not_found_error",
    code: "model_not_found",
    param: "model",
    message: `The model ${JSON.stringify(wanted)} does not exist; this server has ${names.join(", ")}.`,
  });
}

/** The tokenizer; a 400 for a model that has none. */
export function tokenizerOf({ replicas }: ServerContext): Tokenizer {
  const { codec } = replicas.model;
  if (codec instanceof Tokenizer) return codec;
  throw badRequest("This model has no tokenizer: send the prompt as token ids.", "prompt");
}

/** A line for a stream that failed on the way; a client that left is no failure. */
export function logFailure({ log }: ServerContext, id: string, error: unknown): void {
  if (toApiError(error).fields.status !== 499) log.warn(`${id}: ${messageOf(error)}`);
}
