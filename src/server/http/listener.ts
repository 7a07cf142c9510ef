/** A port that is taken before the model is loaded, so that a wrong one is found in time. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { UsageError } from "../../common/errors.ts";
import { unavailable } from "./apiError.ts";

type Fetch = (request: Request) => Response | Promise<Response>;

/** Longer than clients and proxies keep an idle connection: who closes first would cut off a request. */
const KEEP_ALIVE_MS = 75_000;
/** Followers of /status/stream would keep their connections for ever. */
const CLOSE_PATIENCE_MS = 100;

export class Listener {
  /** As http://127.0.0.1:8000 */
  url = "";
  readonly #server: Server;
  #handle: (request: IncomingMessage, response: ServerResponse) => unknown = handlerOf(loading);

  private constructor() {
    const options = { keepAliveTimeout: KEEP_ALIVE_MS };
    this.#server = createServer(options, (request, response) => {
      void this.#handle(request, response);
    });
  }

  /** Throws a UsageError for a host or a port that cannot be had. Requests get a 503 until `serve`. */
  static async open(host: string, port: number): Promise<Listener> {
    const listener = new Listener();
    const server = listener.#server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => {
        reject(describe(error, host, port));
      });
      server.listen(port, host, resolve);
    });
    const { port: taken } = server.address() as AddressInfo;
    listener.url = `http://${host.includes(":") ? `[${host}]` : host}:${taken}`;
    return listener;
  }

  /** Hands requests to the application from now on. */
  serve(fetch: Fetch): void {
    this.#handle = handlerOf(fetch);
  }

  /** Takes no more connections; resolves once `ended` is over and all are closed. */
  async close(ended: Promise<void> = Promise.resolve()): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await ended;
    this.#server.closeIdleConnections();
    setTimeout(() => {
      this.#server.closeAllConnections();
    }, CLOSE_PATIENCE_MS);
    await closed;
  }
}

function handlerOf(fetch: Fetch): ReturnType<typeof getRequestListener> {
  return getRequestListener(fetch, { overrideGlobalObjects: false });
}

function loading(): Response {
  const { response } = unavailable("The model is being loaded.", "loading", 5);
  response.headers.set("connection", "close"); // a body is not read
  return response;
}

/** What the user can do about it, by the system's code. */
const REMEDIES: Readonly<Record<string, "--host" | "--port">> = {
  EADDRINUSE: "--port",
  EACCES: "--port",
  EADDRNOTAVAIL: "--host",
  ENOTFOUND: "--host",
  EAI_AGAIN: "--host",
  EINVAL: "--host",
};

function describe(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const what = REMEDIES[error.code ?? ""];
  if (what === undefined) return error;
  if (what === "--host") {
    return new UsageError({ what, expected: "an address of this machine", got: host });
  }
  const isTaken = error.code === "EADDRINUSE";
  const expected = isTaken ? "a free port" : "a port that you may open";
  const got = `${port} on ${host}${isTaken ? ", which is in use" : ""}`;
  return new UsageError({ what, expected, got });
}
