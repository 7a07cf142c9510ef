/** Errors as OpenAI's clients know them: a status, and `{ error: { message, type, param, code } }`. */
import { InputError, messageOf } from "../../common/errors.ts";

export type ApiErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "not_found_error"
  | "rate_limit_error"
  | "server_error"
  | "overloaded_error";

export interface ApiErrorFields {
  readonly status: 400 | 401 | 404 | 405 | 413 | 415 | 429 | 499 | 500 | 503;
  readonly type: ApiErrorType;
  readonly message: string;
  /** Field of the request that is wrong. */
  readonly param?: string;
  readonly code?: string;
  /** Whole seconds after which to try again; becomes the Retry-After header. */
  readonly retryAfterS?: number;
}

/** What clients read: never a stack, never a path. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ApiErrorType;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export class ApiError extends Error {
  readonly fields: ApiErrorFields;
  override readonly name = "ApiError";

  constructor(fields: ApiErrorFields, options?: ErrorOptions) {
    super(fields.message, options);
    this.fields = fields;
  }

  get body(): ErrorBody {
    const { message, type, param, code } = this.fields;
    return { error: { message, type, param: param ?? null, code: code ?? null } };
  }

  get response(): Response {
    const { status, retryAfterS } = this.fields;
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (retryAfterS !== undefined) headers["retry-after"] = String(retryAfterS);
    if (status === 401) headers["www-authenticate"] = "Bearer";
    return new Response(JSON.stringify(this.body), { status, headers });
  }
}

/** A 400 that names the field. */
export function badRequest(message: string, param?: string, code?: string): ApiError {
  const named = param === undefined ? {} : { param };
  const coded = code === undefined ? {} : { code };
  return new ApiError({ status: 400, type: "invalid_request_error", message, ...named, ...coded });
}

/** A 503 that asks to come again. */
export function unavailable(message: string, code: string, retryAfterS: number): ApiError {
  return new ApiError({ status: 503, type: "overloaded_error", message, code, retryAfterS });
}

/** Nobody reads this answer: the client went away (nginx's status). */
export function clientGone(): ApiError {
  const message = "The client closed the connection.";
  return new ApiError({ status: 499, type: "invalid_request_error", message });
}

/** What the user can correct becomes a 400; all else a 500 whose cause stays in the server's log. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof InputError) return badRequest(messageOf(error));
  const message = "The server failed while it worked on this request.";
  const fields = { status: 500, type: "server_error", code: "internal_error", message } as const;
  return new ApiError(fields, { cause: error });
}
