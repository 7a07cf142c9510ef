/** What TCP adds to the contract: who may join, and connections that break. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import { TcpListener } from "../../../src/collectives/transport/tcp.ts";
import type { TcpTls } from "../../../src/collectives/transport/tcpTlsNode.ts";
import type { Transport } from "../../../src/collectives/transport/transport.ts";
import { deadlineGuard } from "../../../src/collectives/watchdog/operationGuard.ts";
import { randomBytes } from "../support/data.ts";
import { closeAll, TOKEN, tcpWorld } from "../support/worlds.ts";

let toClose: (() => void)[] = [];
afterEach(() => {
  for (const close of toClose) close();
  toClose = [];
});

const hostsOf = (transports: readonly Transport[], timeoutMs = 3000): HostCommunicator[] => {
  toClose.push(() => { closeAll(transports); }); // prettier-ignore
  return transports.map((transport) => new HostCommunicator(worldGroup(transport), { timeoutMs }));
};

/** A port that forwards to another, byte by byte as `spoil` says; `cut` breaks all connections. */
async function proxyTo(
  port: number,
  spoil: (bytes: Buffer) => Buffer,
): Promise<{ port: number; cut: () => void }> {
  const sockets: Socket[] = [];
  const server: Server = createServer((near) => {
    const far = connect({ port, host: "127.0.0.1" });
    sockets.push(near, far);
    near.on("data", (bytes) => far.write(spoil(bytes)));
    far.on("data", (bytes) => near.write(bytes));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      // prettier-ignore
      one.on("close", () => other.destroy());
      one.on("error", () => undefined);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  toClose.push(() => { cut(); server.close(); }); // prettier-ignore
  const address = server.address();
  return { port: typeof address === "object" && address !== null ? address.port : 0, cut };
}

/** Two ranks whose connection goes through a proxy. */
async function proxiedPair(
  spoil: (bytes: Buffer) => Buffer,
  checksums: boolean,
): Promise<{ transports: Transport[]; cut: () => void }> {
  const listeners = await Promise.all([0, 1].map(() => TcpListener.listen({ token: TOKEN })));
  const ports = listeners.map(({ port }) => port);
  const { port, cut } = await proxyTo(ports[0] ?? 0, spoil);
  const addresses = [port, ports[1] ?? 0].map((p) => ({ host: "127.0.0.1", port: p }));
  const transports = await Promise.all(
    listeners.map((listener, rank) =>
      listener.connect({ rank, addresses, checksums, sliceMs: 20 }),
    ),
  );
  return { transports, cut };
}

describe("joining", () => {
  test("another token is turned away, with the reason and the address", async () => {
    const listeners = await Promise.all(
      [TOKEN, `${TOKEN} of another`].map((token) => TcpListener.listen({ token })),
    );
    const addresses = listeners.map(({ port }) => ({ host: "127.0.0.1", port }));
    const outcomes = await Promise.allSettled(
      listeners.map((listener, rank) =>
        listener.connect({ rank, addresses, connectTimeoutMs: 300 }),
      ),
    );
    const reasons = outcomes.map((outcome) =>
      outcome.status === "rejected" ? String(outcome.reason) : "",
    );
    expect(reasons[0]).toMatch(
      /rank 0 has no connection to rank 1 at 127\.0\.0\.1:\d+ \(it did not dial\)/,
    );
    expect(reasons[1]).toContain("is the token the same on all machines?");
  });

  test("strangers are turned away and do not keep ranks from meeting", async () => {
    const listeners = await Promise.all([0, 1].map(() => TcpListener.listen({ token: TOKEN })));
    const addresses = listeners.map(({ port }) => ({ host: "127.0.0.1", port }));
    const strangers = ["GET / HTTP/1.1\r\n\r\n".repeat(10), "", "TNDM"].map((text) => {
      const socket = connect(addresses[0] ?? { port: 0 });
      socket.on("error", () => undefined);
      socket.write(text);
      return socket;
    });
    const hosts = hostsOf(
      await Promise.all(listeners.map((listener, rank) => listener.connect({ rank, addresses }))),
    );
    await Promise.all(hosts.map((host) => host.barrier()));
    for (const socket of strangers) socket.destroy();
  });

  test("a short token is refused before anything listens", async () => {
    await expect(TcpListener.listen({ token: "short" })).rejects.toThrow(
      "tcp token: expected at least 16 characters, got 5",
    );
  });

  test("a rank that never comes is named", async () => {
    const listener = await TcpListener.listen({ token: TOKEN });
    const addresses = [
      { host: "127.0.0.1", port: 1 },
      { host: "127.0.0.1", port: listener.port },
    ];
    await expect(listener.connect({ rank: 1, addresses, connectTimeoutMs: 250 })).rejects.toThrow(
      /rank 1 has no connection to rank 0 at 127\.0\.0\.1:1 \(.*ECONNREFUSED.*\) within 250 ms/,
    );
  });
});

describe("breaking", () => {
  test("a lost connection aborts the world and names the peer", async () => {
    const { transports, cut } = await proxiedPair((bytes) => bytes, false);
    const hosts = hostsOf(transports);
    await Promise.all(hosts.map((host) => host.barrier()));
    const waits = hosts.map((host) => host.recvBytes(1 - host.rank));
    const begin = performance.now();
    cut();
    const reasons = await Promise.allSettled(waits);
    for (const outcome of reasons) {
      expect(outcome).toMatchObject({
        reason: {
          message: expect.stringMatching(/rank [01] lost its connection to rank [01]/) as string,
        },
      });
    }
    expect(performance.now() - begin).toBeLessThan(2500); // the deadline is 3 s
  });

  test("a frame that was damaged on its way aborts the world", async () => {
    let isOn = false;
    const flip = (bytes: Buffer): Buffer => {
      const at = bytes.length - 1;
      if (isOn && bytes.length > 0) bytes[at] = (bytes[at] ?? 0) ^ 1;
      return bytes;
    };
    const { transports } = await proxiedPair(flip, true);
    const hosts = hostsOf(transports);
    await Promise.all(hosts.map((host) => host.barrier()));
    isOn = true;
    const outcomes = await Promise.allSettled(
      hosts.map(async (host) => {
        await host.allReduce(new Float32Array(1000), { algorithm: "oneShot" });
        await host.barrier(); // where the rank that has all it needs learns of it
      }),
    );
    expect(String((outcomes[0] as PromiseRejectedResult).reason)).toMatch(
      /rank 0 lost its connection to rank 1: frame: expected checksum/,
    );
    expect(outcomes[1]?.status).toBe("rejected");
  });

  test("bytes that are no frame abort the world even without checksums", async () => {
    let isOn = false;
    const drop = (bytes: Buffer): Buffer => (isOn ? bytes.subarray(1) : bytes);
    const { transports } = await proxiedPair(drop, false);
    const hosts = hostsOf(transports);
    await Promise.all(hosts.map((host) => host.barrier()));
    isOn = true;
    const outcomes = await Promise.allSettled(
      hosts.map((host) => host.allReduce(new Float32Array(1000)).then(() => host.barrier())),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(String((outcomes[0] as PromiseRejectedResult).reason)).toMatch(/the stream is damaged/);
  });

  test("a peer that falls silent is given up", async () => {
    let isOn = false;
    const swallow = (bytes: Buffer): Buffer => (isOn ? Buffer.alloc(0) : bytes);
    const listeners = await Promise.all([0, 1].map(() => TcpListener.listen({ token: TOKEN })));
    const ports = listeners.map(({ port }) => port);
    const { port } = await proxyTo(ports[0] ?? 0, swallow);
    const addresses = [port, ports[1] ?? 0].map((p) => ({ host: "127.0.0.1", port: p }));
    const transports = await Promise.all(
      listeners.map((listener, rank) =>
        listener.connect({ rank, addresses, sliceMs: 20, silenceMs: rank === 0 ? 200 : 10_000 }),
      ),
    );
    const [first] = hostsOf(transports, 5000);
    isOn = true;
    await expect(first?.recvBytes(1)).rejects.toThrow(
      "lost its connection to rank 1: nothing heard for",
    );
  });
});

test("a sender is held back until the receiver takes what it sent", async () => {
  const [a, b] = await tcpWorld(2);
  if (a === undefined || b === undefined) throw new Error("no world");
  toClose.push(() => { closeAll([a, b]); }); // prettier-ignore
  const message = (tag: number): { tag: number; signature: number } => ({ tag, signature: 0 });
  const part = randomBytes(1 << 20, 1);
  let numSent = 0;
  const sends = Array.from({ length: 24 }, async (_, tag) => {
    await a.send(1, message(tag), part, deadlineGuard(a.control, 10_000));
    numSent += 1;
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(numSent).toBeLessThan(12); // 8 MiB of window, and not 24
  let numBytes = 0;
  for (let tag = 0; tag < 24; tag++) {
    await b.recv(0, tag, ({ bytes }) => { numBytes += bytes.length; }, deadlineGuard(b.control, 10_000)); // prettier-ignore
  }
  await Promise.all(sends);
  expect(numBytes).toBe(24 << 20);
});

test("what one rank announces shows in the others' control blocks", async () => {
  const transports = await tcpWorld(2);
  const hosts = hostsOf(transports, 10_000);
  const waiting = hosts[0]?.barrier();
  const progress = (): number | undefined => transports[1]?.control.progress(0, 0).started;
  await expect.poll(progress, { timeout: 1000 }).toBe(1);
  await hosts[1]?.barrier();
  await waiting;
});

describe("tls", () => {
  async function sums(tls: TcpTls): Promise<unknown[]> {
    const hosts = hostsOf(await tcpWorld(3, () => ({}), { tls }));
    const x = (): Float32Array => new Float32Array(100_000).fill(1);
    return Promise.all(hosts.map(async (host) => [...new Set(await host.allReduce(x()))]));
  }

  test("with a key made from the token", async () => {
    expect(await sums("token")).toEqual([[3], [3], [3]]);
  });

  test("with certificates", async ({ skip }) => {
    const certificates = makeCertificates();
    if (certificates === undefined) return skip("no openssl here to make a certificate");
    expect(await sums(certificates)).toEqual([[3], [3], [3]]);
  });
});

/** A certificate that is its own issuer, so `ca` is the certificate. */
function makeCertificates(): { key: string; cert: string; ca: string } | undefined {
  const folder = mkdtempSync(join(tmpdir(), "tandem-tls-"));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const args = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
  ];
  try {
    execFileSync("openssl", [...args, "-subj", "/CN=tandem", "-keyout", key, "-out", cert], {
      stdio: "ignore",
    });
    const text = readFileSync(cert, "utf8");
    return { key: readFileSync(key, "utf8"), cert: text, ca: text };
  } catch {
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
