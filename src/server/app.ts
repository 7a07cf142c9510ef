/** All routes, and what every request passes on its way to them. */
import { readFile } from "node:fs/promises";
import { Hono } from "hono";
import { cors } from "hono/cors";
import { type ServerContext, servedModel } from "./context.ts";
import { ApiError, toApiError } from "./http/apiError.ts";
import { apiKeyCheck } from "./http/apiKey.ts";
import { sseResponse } from "./http/sse.ts";
import { chatCompletions } from "./routes/chat.ts";
import { completions } from "./routes/completions.ts";
import { health, models, ready } from "./routes/health.ts";
import { detokenize, tokenize } from "./routes/tokenize.ts";

/** Paths that need the API key; what is left tells no more than whether and how busily the server runs. */
const GUARDED = ["/v1/*", "/tokenize", "/detokenize", "/status", "/status/*"] as const;
const PAGE_FILES = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/page.css": ["page.css", "text/css; charset=utf-8"],
} as const;

/** The server as a function from requests to answers. */
export function createApp(server: ServerContext): Hono {
  const app = new Hono();
  const { allowedOrigins, apiKeys } = server.options;
  if (allowedOrigins.length > 0) {
    const origin = allowedOrigins.includes("*") ? "*" : [...allowedOrigins];
    app.use(cors({ origin, exposeHeaders: ["retry-after"] }));
  }
  const checkKey = apiKeyCheck(apiKeys);
  for (const path of GUARDED) {
    app.use(path, async (context, next) => {
      checkKey(context.req.header("authorization"));
      await next();
    });
  }
  addApi(app, server);
  addMonitoring(app, server);
  addPage(app);
  app.notFound(({ req }) => {
    const message = `There is no ${req.method} ${req.path}.`;
    return refuse(new ApiError({ status: 404, type: "not_found_error", message }), req.raw);
  });
  app.onError((error, { req }) => {
    const known = toApiError(error);
    if (known.fields.status === 500) server.log.error(() => describe(error));
    return refuse(known, req.raw);
  });
  return app;
}

/** A connection whose request was not read to its end is not used again: the rest would be in the way. */
function refuse(error: ApiError, { method, bodyUsed }: Request): Response {
  const { response } = error;
  const hasBody = method !== "GET" && method !== "HEAD";
  const isUnread = hasBody && (!bodyUsed || error.fields.status === 413);
  if (isUnread) response.headers.set("connection", "close");
  return response;
}

function addApi(app: Hono, server: ServerContext): void {
  app.post("/v1/completions", (context) => completions(server, context));
  app.post("/v1/chat/completions", (context) => chatCompletions(server, context));
  app.post("/tokenize", (context) => tokenize(server, context));
  app.post("/detokenize", (context) => detokenize(server, context));
  app.get("/v1/models", ({ json }) => json({ object: "list", data: models(server) }));
  app.get("/v1/models/:model{.+}", ({ req, json }) => {
    const name = req.param("model");
    servedModel(server, name);
    return json(models(server).find((model) => (model as { id: string }).id === name) ?? {});
  });
}

function addMonitoring(app: Hono, server: ServerContext): void {
  app.get("/health", () => health(server));
  app.get("/ready", () => ready(server));
  app.get("/metrics", async () => {
    const headers = { "content-type": server.metrics.registry.contentType };
    return new Response(await server.metrics.text(), { headers });
  });
  app.get("/status", async ({ json }) => json(await server.status.read()));
  app.get("/status/stream", ({ req }) => {
    const left = new AbortController();
    const signal = AbortSignal.any([left.signal, req.raw.signal]);
    const onCancel = (): void => {
      left.abort();
    };
    return sseResponse(server.status.follow(signal), { onCancel, done: false });
  });
}

function addPage(app: Hono): void {
  for (const [path, [file, type]] of Object.entries(PAGE_FILES)) {
    app.get(path, async () => {
      const body = await readFile(new URL(`./page/${file}`, import.meta.url));
      return new Response(body, {
        headers: {
          "content-type": type,
          "content-security-policy":
            "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
          "x-content-type-options": "nosniff",
        },
      });
    });
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
