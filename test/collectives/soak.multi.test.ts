/**
 * Mixed collectives between devices for a while: no memory, handle or GPU buffer is left behind. 3 s by
 * default, in CI 15 s (two worlds on two adapters: a minute in all); TANDEM_SOAK_SECONDS says otherwise.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { DeviceCommunicator } from "../../src/collectives/deviceCommunicator.ts";
import type { CommandList } from "../../src/device/commandList.ts";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { gatherRows } from "../../src/kernels/gatherRows.ts";
import { openTestDevice, testAdapter } from "../support/gpu.ts";
import { closeAll, LOCAL_WORLDS, ranksOf } from "./support/worlds.ts";

const SECONDS = Number(
  process.env["TANDEM_SOAK_SECONDS"] ?? (process.env["CI"] === undefined ? 3 : 15),
);
const NUM_RANKS = 3;
const [ROWS, COLUMNS] = [8, 64];
const NUM_WINDOWS = 5;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
const devices = ranksOf(NUM_RANKS).map((rank) => openTestDevice(testAdapter, `rank ${rank}`));

afterAll(async () => {
  for (const device of await Promise.all(devices)) await device.destroy();
});

/** One list with every recorded operation; a step of a model has no more. */
async function recordAll(device: Device, host: HostCommunicator): Promise<CommandList> {
  const comm = new DeviceCommunicator(host);
  const { rank, worldSize } = comm;
  const x = device.upload(new Float32Array(ROWS * COLUMNS).fill(1), [ROWS, COLUMNS]);
  const indices = device.upload(
    Uint32Array.from({ length: ROWS }, (_, i) => i),
    [ROWS],
    "u32",
  );
  const sendRows = device.upload(new Uint32Array(worldSize).fill(1), [worldSize], "u32");
  const arrived = device.empty([ROWS, COLUMNS]);
  const all = device.empty([worldSize, ROWS * COLUMNS]);
  const [next, previous] = [(rank + 1) % worldSize, (rank + worldSize - 1) % worldSize];
  const rows = ({ numTokens }: { readonly numTokens: number }): number => numTokens;
  return device.finish(
    device.record((rec) => {
      comm.allReduce(rec, "sum", [ROWS, COLUMNS], (out) => {
        gatherRows(rec, { x, indices, out });
      });
      comm.reduceScatter(rec, "shard", x, rows);
      comm.broadcast(rec, "root", x, 0, rows);
      comm.gather(rec, "all", x, 0, rows, rank === 0 ? all : undefined);
      comm.allToAll(rec, "exchange", { x, sendRows, maxRows: worldSize });
      const send = (): void => {
        comm.send(rec, "next", x, next);
      };
      const recv = (): void => {
        comm.recv(rec, "previous", arrived, previous);
      };
      for (const step of rank % 2 === 0 ? [send, recv] : [recv, send]) step();
      comm.barrier(rec, "end");
    }),
  );
}

interface Footprint {
  readonly heapBytes: number;
  readonly hostBytes: number;
  readonly residentBytes: number;
  readonly handles: number;
  readonly gpuObjects: readonly (readonly number[])[];
}

async function footprint(all: readonly Device[]): Promise<Footprint> {
  for (let i = 0; i < 2; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return {
    heapBytes: heapUsed,
    hostBytes: arrayBuffers,
    residentBytes: rss,
    handles: process.getActiveResourcesInfo().length,
    gpuObjects: all.map(({ counters, pipelines }) => [
      ...[counters.buffers, counters.bindGroups, counters.allocatedBytes, pipelines.numPipelines],
    ]),
  };
}

test.each(Object.entries(LOCAL_WORLDS))(
  `%s: ${SECONDS} s of device collectives leave nothing behind`,
  { timeout: 1000 * (10 * SECONDS + 60) },
  async (_, makeWorld) => {
    const transports = makeWorld(NUM_RANKS);
    const all = await Promise.all(devices);
    const lists = await Promise.all(
      transports.map((transport, rank) => {
        const host = new HostCommunicator(worldGroup(transport), { timeoutMs: 30_000 });
        const device = all[rank];
        if (device === undefined) throw new Error(`no device for rank ${rank}`);
        return recordAll(device, host);
      }),
    );
    let step = 0;
    const runUntil = async (endMs: number): Promise<void> => {
      do {
        const live = liveRows(1 + (step % ROWS));
        await Promise.all(lists.map((list) => list.replay(live)));
        step += 1;
      } while (performance.now() < endMs);
    };
    await runUntil(performance.now() + 300 * SECONDS); // the recorder fills, code is compiled
    const before = await footprint(all);
    const residentBytes = [before.residentBytes];
    let after = before;
    for (let window = 0; window < NUM_WINDOWS; window++) {
      await runUntil(performance.now() + (700 * SECONDS) / NUM_WINDOWS);
      after = await footprint(all);
      residentBytes.push(after.residentBytes);
    }
    for (const list of lists) list.destroy();
    closeAll(transports);
    expect(after.gpuObjects).toEqual(before.gpuObjects);
    expect(after.handles).toBeLessThanOrEqual(before.handles + 2); // a timer may be armed or not
    expect(after.heapBytes - before.heapBytes).toBeLessThan(3e6);
    expect(after.hostBytes - before.hostBytes).toBeLessThan(3e6);
    // Compiled code and the driver's pools grow now and then: a leak grows in every window.
    const growths = residentBytes.slice(1).map((bytes, i) => bytes - (residentBytes[i] ?? 0));
    expect(Math.min(...growths)).toBeLessThan(3e6);
  },
);
