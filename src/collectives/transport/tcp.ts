/**
 * Ranks on several machines: one TCP connection a pair, the higher rank dials. Every rank first listens,
 * then connects with everybody's addresses; both ends prove that they know the token. With `tls`
 * everything is encrypted, by certificates or by a key made from the token alone.
 */
import {
  connect as connectPlain,
  createServer as createPlainServer,
  type Server,
  type Socket,
} from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { crc32 } from "node:zlib";
import { CollectiveError, messageOf, UsageError } from "../../common/errors.ts";
import type { ByteStream } from "./streamPeer.ts";
import { StreamTransport, type StreamTransportOptions } from "./streamTransport.ts";
import { authenticateAccepted, authenticateDialled } from "./tcpAuthNode.ts";
import { type TcpTls, tlsClientOptions, tlsServerOptions } from "./tcpTlsNode.ts";
import type { Transport } from "./transport.ts";

export interface TcpListenOptions {
  /** Of the interface to listen on. */
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port?: number;
  /** Known to all ranks and to nobody else. */
  readonly token: string;
  readonly tls?: TcpTls;
}

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export interface TcpConnectOptions extends Omit<StreamTransportOptions, "worldSize" | "hosts"> {
  /** Of every rank, by rank. */
  readonly addresses: readonly TcpAddress[];
  /** Ranks to connect with; all others by default. */
  readonly peers?: readonly number[];
  /** The host of each rank; by default those of one address host live together. */
  readonly hosts?: readonly number[];
  readonly connectTimeoutMs?: number;
}

const RETRY_MS = 100;

/** A rank's open port; connections wait in it until `connect`. */
export class TcpListener {
  readonly #server: Server;
  readonly #options: TcpListenOptions;
  readonly #waiting: Socket[] = [];
  #accept: ((socket: Socket) => void) | undefined;

  private constructor(server: Server, options: TcpListenOptions) {
    this.#server = server;
    this.#options = options;
    server.on(options.tls === undefined ? "connection" : "secureConnection", (socket: Socket) => {
      socket.on("error", () => undefined); // who waits for the socket is told by its end
      if (this.#accept === undefined) this.#waiting.push(socket);
      else this.#accept(socket);
    });
  }

  static async listen(options: TcpListenOptions): Promise<TcpListener> {
    if (options.token.length < 16) {
      throw new UsageError({
        what: "tcp token",
        expected: "at least 16 characters",
        got: options.token.length,
        remedy: "make one with `openssl rand -hex 32`",
      });
    }
    const { host = "127.0.0.1", port = 0, tls, token } = options;
    const server =
      tls === undefined ? createPlainServer() : createTlsServer(tlsServerOptions(tls, token));
    const listener = new TcpListener(server, options);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error: Error) => {
        reject(new CollectiveError(`tcp: cannot listen on ${host}:${port}: ${error.message}`));
      });
      server.listen(port, host, resolve);
    });
    return listener;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  /** Connects with all peers, then closes the port. Rejects after `connectTimeoutMs`, naming who is missing. */
  async connect(options: TcpConnectOptions): Promise<Transport> {
    const { rank, addresses, connectTimeoutMs = 30_000 } = options;
    const worldSize = addresses.length;
    const peers = options.peers ?? addresses.map((_, peer) => peer).filter((peer) => peer !== rank);
    const sockets = new Map<number, Socket>();
    const problems = new Map<number, string>();
    const deadline = performance.now() + connectTimeoutMs;
    const identity = { rank, worldSize, token: this.#options.token };
    const accepted = this.#acceptAll(
      peers.filter((peer) => peer > rank),
      identity,
      sockets,
      deadline,
    );
    const dialled = peers
      .filter((peer) => peer < rank)
      .map(async (peer) => {
        const address = addresses[peer];
        if (address !== undefined)
          await this.#dial(peer, address, identity, sockets, problems, deadline);
      });
    await Promise.all([accepted, ...dialled]);
    this.close();
    const missing = peers.filter((peer) => !sockets.has(peer));
    if (missing.length > 0) {
      for (const socket of sockets.values()) socket.destroy();
      const names = missing.map((peer) => {
        const { host, port } = addresses[peer] ?? { host: "?", port: 0 };
        return `rank ${peer} at ${host}:${port} (${problems.get(peer) ?? "it did not dial"})`;
      });
      throw new CollectiveError(
        `tcp: rank ${rank} has no connection to ${names.join(", ")} within ${connectTimeoutMs} ms`,
      );
    }
    const streams = new Map([...sockets].map(([peer, socket]) => [peer, streamOf(socket)]));
    const hosts = options.hosts ?? hostsOf(addresses);
    return new StreamTransport(streams, (bytes, crc) => crc32(bytes, crc), {
      ...options,
      worldSize,
      hosts,
    });
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
  }

  /** Takes connections until every expected rank has one; strangers are turned away. */
  async #acceptAll(
    expected: readonly number[],
    identity: Parameters<typeof authenticateAccepted>[1],
    sockets: Map<number, Socket>,
    deadline: number,
  ): Promise<void> {
    const isDone = (): boolean => expected.every((peer) => sockets.has(peer));
    if (isDone()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, deadline - performance.now());
      this.#accept = (socket) => {
        authenticateAccepted(socket, identity).then(
          (peer) => {
            if (!expected.includes(peer) || sockets.has(peer)) socket.destroy();
            else sockets.set(peer, socket);
            if (!isDone()) return;
            clearTimeout(timer);
            resolve();
          },
          () => socket.destroy(),
        );
      };
      for (const socket of this.#waiting.splice(0)) this.#accept(socket);
    });
    this.#accept = undefined;
  }

  /** Until it works or time is up: the other rank may not listen yet. */
  async #dial(
    peer: number,
    address: TcpAddress,
    identity: Parameters<typeof authenticateDialled>[1],
    sockets: Map<number, Socket>,
    problems: Map<number, string>,
    deadline: number,
  ): Promise<void> {
    while (performance.now() < deadline) {
      let socket: Socket | undefined;
      try {
        socket = await this.#open(address);
        await authenticateDialled(socket, identity, peer);
        sockets.set(peer, socket);
        return;
      } catch (error) {
        socket?.destroy();
        problems.set(peer, messageOf(error));
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #open({ host, port }: TcpAddress): Promise<Socket> {
    const { tls, token } = this.#options;
    return new Promise((resolve, reject) => {
      const socket: Socket =
        tls === undefined
          ? connectPlain({ host, port })
          : connectTls({ host, port, ...tlsClientOptions(tls, token) });
      socket.once("error", reject);
      socket.once(tls === undefined ? "connect" : "secureConnect", () => {
        socket.off("error", reject);
        socket.on("error", () => undefined);
        resolve(socket);
      });
    });
  }
}

function streamOf(socket: Socket): ByteStream {
  socket.setNoDelay(true);
  let reason = "it closed the connection";
  socket.on("error", (error) => {
    reason = error.message;
  });
  return {
    write: (parts, done) => {
      if (socket.destroyed || socket.writableEnded) {
        done();
        return;
      }
      socket.cork();
      parts.forEach((part, index) => {
        socket.write(part, index === parts.length - 1 ? () => { done(); } : undefined); // prettier-ignore
      });
      socket.uncork();
    },
    get backlogBytes() {
      return socket.writableLength;
    },
    onBytes: (listener) => {
      socket.on("data", listener);
      socket.resume(); // the handshake read by hand
    },
    onEnd: (listener) => {
      socket.once("close", () => {
        listener(reason);
      });
    },
    end: () => {
      socket.end();
      setTimeout(() => socket.destroy(), 2000).unref();
    },
  };
}

/** Ranks with the same address host live together. */
function hostsOf(addresses: readonly TcpAddress[]): number[] {
  const names = [...new Set(addresses.map(({ host }) => host))];
  return addresses.map(({ host }) => names.indexOf(host));
}
