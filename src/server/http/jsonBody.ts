/** Reads a request's JSON body within a size, and checks it against a schema. */
import type { z } from "zod";
import { ApiError, badRequest } from "./apiError.ts";

/** The body as the schema's output; an ApiError names the first field that is wrong. */
export async function readJsonBody<T extends z.ZodType>(
  request: Request,
  schema: T,
  maxBytes: number,
): Promise<z.output<T>> {
  // Not only form: a page of another origin may post text/plain to this server without asking first.
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/([\w.+-]+\+)?json\b/i.test(type)) {
    const message = `Expected content-type application/json, got ${type === "" ? "none" : type}.`;
    throw new ApiError({ status: 415, type: "invalid_request_error", message });
  }
  const parsed = schema.safeParse(parseJson(await readBytes(request, maxBytes)));
  if (parsed.success) return parsed.data;
  throw describeIssue(parsed.error);
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  const chunks: Uint8Array[] = [];
  let numBytes = 0;
  for await (const chunk of request.body ?? []) {
    numBytes += chunk.byteLength;
    if (numBytes > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function tooLarge(maxBytes: number): ApiError {
  const message = `The body is larger than ${maxBytes} bytes, this server's limit.`;
  const fields = { status: 413, type: "invalid_request_error", message } as const;
  return new ApiError({ ...fields, code: "request_too_large" });
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch {
    throw badRequest("The body is not valid JSON in UTF-8.", undefined, "invalid_json");
  }
}

interface Issue {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly errors?: readonly (readonly Issue[])[] | undefined;
}

/** The first issue; of a union the one that got furthest into the value. */
function describeIssue({ issues }: { readonly issues: readonly unknown[] }): ApiError {
  const { path, message } = deepest(issues[0] as Issue);
  const param = path.map(String).join(".");
  const where = param === "" ? "The body" : param;
  return badRequest(`${where}: ${message}`, param === "" ? undefined : param, "invalid_value");
}

function deepest(issue: Issue): Issue {
  const inner = (issue.errors ?? [])
    .flatMap((branch) => branch.slice(0, 1))
    .map((nested) => deepest({ ...nested, path: [...issue.path, ...nested.path] }));
  const best = inner.sort((a, b) => comparePlaces(b.path, a.path))[0];
  return best !== undefined && best.path.length > issue.path.length ? best : issue;
}

/** The longer path is further; of two as long, the one with the later item of a list. */
function comparePlaces(a: readonly PropertyKey[], b: readonly PropertyKey[]): number {
  if (a.length !== b.length) return a.length - b.length;
  const at = a.findIndex((key, depth) => key !== b[depth]);
  const [left, right] = [a[at], b[at]];
  return typeof left === "number" && typeof right === "number" ? left - right : 0;
}
