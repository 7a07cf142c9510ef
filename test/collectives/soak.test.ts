/**
 * Mixed operations for a while: nothing grows. 2 s a transport by default; TANDEM_SOAK_SECONDS says
 * otherwise (a minute in CI, more before a release).
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { ALGORITHMS } from "../../src/collectives/signature.ts";
import { WIRE_FORMATS } from "../../src/collectives/wire.ts";
import { closeAll, WORLDS } from "./support/worlds.ts";

const SECONDS = Number(process.env["TANDEM_SOAK_SECONDS"] ?? 10) / Object.keys(WORLDS).length;
const NUM_RANKS = 4;
const SIZES = [0, 1, 300, 4000]; // some of the worlds have slots of 64 bytes

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** One round of everything; the same on every rank. */
async function round(host: HostCommunicator, index: number): Promise<void> {
  const { rank, worldSize } = host;
  const length = SIZES[index % SIZES.length] ?? 0;
  const algorithm = ALGORITHMS[index % ALGORITHMS.length] ?? "ring";
  const wire = WIRE_FORMATS[index % WIRE_FORMATS.length] ?? "f32";
  const root = index % worldSize;
  const sum = await host.allReduce(new Float32Array(length).fill(1), { algorithm, wire });
  // 4 is exact in every wire; q8 scales by 4 / 127
  if (length > 0 && Math.abs((sum[length - 1] ?? 0) - worldSize) > 1e-5)
    throw new Error("wrong sum");
  await host.reduceScatter(new Float32Array(length), { wire });
  await host.allGatherBytes(new Uint8Array(rank * 10));
  await host.broadcast(new Uint8Array(length), root);
  await host.gather(new Uint8Array(rank), root);
  await host.allToAll(Array.from({ length: worldSize }, (_, to) => new Uint8Array(100 * to)));
  const [right, left] = [(rank + 1) % worldSize, (rank + worldSize - 1) % worldSize];
  await Promise.all([
    host.sendTensorDict(right, { x: { shape: [length], data: new Float32Array(length) }, index }),
    host.recvTensorDict(left),
  ]);
  await host.barrier();
}

interface Footprint {
  readonly heapBytes: number;
  readonly bufferBytes: number;
  readonly handles: number;
}

/** Twice, with a pause: memory of buffers is given back some time after their objects are. */
async function footprint(): Promise<Footprint> {
  for (let i = 0; i < 2; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return {
    heapBytes: heapUsed,
    bufferBytes: arrayBuffers,
    handles: process.getActiveResourcesInfo().length,
  };
}

test.each(Object.entries(WORLDS))(
  `%s: ${SECONDS} s of mixed operations leave nothing behind`,
  { timeout: 1000 * (10 * SECONDS + 60) },
  async (_, makeWorld) => {
    const transports = await makeWorld(NUM_RANKS);
    const hosts = transports.map(
      (transport) => new HostCommunicator(worldGroup(transport), { timeoutMs: 20_000 }),
    );
    let index = 0;
    const runUntil = async (endMs: number): Promise<void> => {
      do {
        await Promise.all(hosts.map((host) => round(host, index)));
        index += 1;
      } while (performance.now() < endMs);
    };
    await runUntil(performance.now() + 300 * SECONDS); // the recorder fills, code is compiled
    const before = await footprint();
    await runUntil(performance.now() + 700 * SECONDS);
    const after = await footprint();
    closeAll(transports);
    expect(after.handles).toBeLessThanOrEqual(before.handles + 2); // a timer may be armed or not
    expect(after.heapBytes - before.heapBytes).toBeLessThan(3e6);
    expect(after.bufferBytes - before.bufferBytes).toBeLessThan(3e6);
  },
);
