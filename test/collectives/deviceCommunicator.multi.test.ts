/** The communicator of device memory: all ranks in this process, each with a device of its own. */
import { afterAll, describe, expect, test } from "vitest";
import { DeviceCommunicator } from "../../src/collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { LoopbackHub } from "../../src/collectives/transport/loopback.ts";
import { WIRE_FORMATS } from "../../src/collectives/wire.ts";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import { addPartials } from "../../src/kernels/sumResidualNorm.ts";
import { openTestDevice, testAdapter } from "../support/gpu.ts";
import { communicatorSuite } from "./communicator.suite.ts";
import { bitsOf, randomFloats } from "./support/data.ts";
import { deviceMember } from "./support/deviceMembers.ts";
import type { OnEveryMember } from "./support/members.ts";
import { expectSums, sumOracle } from "./support/sums.ts";
import { onEveryRank, ranksOf, WORLDS } from "./support/worlds.ts";

const MAX_RANKS = 3;
const devices = ranksOf(MAX_RANKS).map((rank) => openTestDevice(testAdapter, `rank ${rank}`));
const otherDevices: Device[] = [];

afterAll(async () => {
  for (const device of [...(await Promise.all(devices)), ...otherDevices]) await device.destroy();
});

async function deviceOf(rank: number): Promise<Device> {
  const device = await devices[rank];
  if (device === undefined) throw new Error(`no device for rank ${rank}`);
  return device;
}

for (const [name, makeWorld] of Object.entries(WORLDS)) {
  const everywhere: OnEveryMember = (worldSize, body, timeoutMs) =>
    onEveryRank(
      makeWorld,
      worldSize,
      async (host) => body(deviceMember(await deviceOf(host.rank), host)),
      timeoutMs,
    );
  communicatorSuite(`device memory over ${name}`, everywhere, {
    maxWorldSize: MAX_RANKS,
    numRuns: 4,
  });
}

describe("options", () => {
  test.each(
    WIRE_FORMATS.flatMap((wire) =>
      (["oneShot", "twoShot", "ring"] as const).map((algorithm) => [wire, algorithm] as const),
    ),
  )("%s on the wire, %s: near the sum, and the same bits on all ranks", async (wire, algorithm) => {
    const hub = new LoopbackHub(2);
    const results = await Promise.all(
      ranksOf(2).map(async (rank) => {
        const host = new HostCommunicator(worldGroup(hub.transport(rank)), { wire, algorithm });
        const member = deviceMember(await deviceOf(rank), host);
        return member.allReduce(randomFloats(7 * 40, rank), 40);
      }),
    );
    expect(bitsOf(results[0] ?? new Float32Array(0))).toEqual(
      bitsOf(results[1] ?? new Float32Array(1)),
    );
    const [sums, bounds] = sumOracle(2, 280, 0);
    const slack = { f32: 0, f16: 0.2, bf16: 1.5, q8: 4 }[wire]; // values reach 256 in two terms
    expectSums(
      results[0] ?? new Float32Array(0),
      0,
      sums,
      bounds.map((bound) => bound + slack),
    );
  });

  test.each(
    (["f32", "f16", "bf16"] as const).flatMap((wire) =>
      [0, 1, 2, 7].map((n) => [wire, n] as const),
    ),
  )("twoShot over three ranks, %s, %i rows: some ranks may have none", async (wire, rows) => {
    const hub = new LoopbackHub(MAX_RANKS);
    const columns = 40;
    const results = await Promise.all(
      ranksOf(MAX_RANKS).map(async (rank) => {
        const group = worldGroup(hub.transport(rank));
        const host = new HostCommunicator(group, { wire, algorithm: "twoShot" });
        const member = deviceMember(await deviceOf(rank), host);
        return member.allReduce(randomFloats(rows * columns, rank), columns);
      }),
    );
    const [sums, bounds] = sumOracle(MAX_RANKS, rows * columns, 0);
    const slack = { f32: 0, f16: 0.5, bf16: 4 }[wire]; // values reach 256 in three terms
    for (const result of results) {
      expect(result).toHaveLength(rows * columns);
      expect(bitsOf(result)).toEqual(bitsOf(results[0] ?? result));
      expectSums(
        result,
        0,
        sums,
        bounds.map((bound) => bound + slack),
      );
    }
  });

  test("a world of one records nothing", async () => {
    const device = await deviceOf(0);
    const comm = new DeviceCommunicator(
      new HostCommunicator(worldGroup(new LoopbackHub(1).transport(0))),
    );
    const x = device.empty([2, 4]);
    const sendRows = device.empty([1], "u32");
    const { ops } = device.record((rec) => {
      expect(comm.reduceScatter(rec, "x", x, () => 2)).toBe(x);
      expect(comm.allGather(rec, "x", x, () => 2, 2)).toBe(x);
      expect(comm.allToAll(rec, "x", { x, sendRows, maxRows: 2 })).toEqual({
        out: x,
        recvRows: sendRows,
      });
      comm.broadcast(rec, "x", x, 0, () => 2);
      comm.barrier(rec, "x");
    });
    expect(ops).toEqual([]);
  });

  test("more rows than there is room for end the operation everywhere", async () => {
    const hub = new LoopbackHub(2);
    const outcomes = await Promise.allSettled(
      ranksOf(2).map(async (rank) => {
        const host = new HostCommunicator(worldGroup(hub.transport(rank)), { timeoutMs: 500 });
        const member = deviceMember(await deviceOf(rank), host);
        await member.allToAll([new Float32Array(0), new Float32Array(rank === 0 ? 65 : 0)], 1);
        await host.barrier();
      }),
    );
    const [, second] = outcomes;
    expect(second).toMatchObject({
      reason: { message: expect.stringContaining("expected up to 64 rows, got 65") as string },
    });
  });

  test("ranks on adapters of different make agree to the bit", async ({ skip }) => {
    const names = new Set((await new NodeOpener().list()).map(({ name }) => name));
    skip(names.size < 2, "only one adapter here");
    const others = await Promise.all([...names].slice(0, 2).map((name) => openTestDevice(name)));
    otherDevices.push(...others);
    const hub = new LoopbackHub(2);
    const results = await Promise.all(
      others.map((device, rank) =>
        deviceMember(device, new HostCommunicator(worldGroup(hub.transport(rank)))).allReduce(
          randomFloats(1000, rank),
          10,
        ),
      ),
    );
    expect(bitsOf(results[0] ?? new Float32Array(0))).toEqual(
      bitsOf(results[1] ?? new Float32Array(1)),
    );
  });
});

test("a recording that is replayed many times creates nothing and leaves nothing behind", async () => {
  const hub = new LoopbackHub(2);
  const options = { timeoutMs: 10_000 };
  const grown = await Promise.all(
    ranksOf(2).map(async (rank) => {
      const device = await deviceOf(rank);
      const comm = new DeviceCommunicator(
        new HostCommunicator(worldGroup(hub.transport(rank)), options),
      );
      const x = device.upload(randomFloats(64, rank), [8, 8]);
      const sendRows = device.upload(Uint32Array.of(1, 2), [2], "u32");
      const list = await device.finish(
        device.record((rec) => {
          comm.allReduce(rec, "sum", [8, 8], (partial) => {
            const source = { tensor: x, count: 1, strideElements: x.numElements };
            addPartials(rec, { partials: source, residual: partial });
          });
          const chunk = comm.reduceScatter(rec, "x", x, () => 8);
          comm.allGather(rec, "x", chunk, () => 8, 8);
          comm.broadcast(rec, "x", x, 1, () => 8);
          comm.allToAll(rec, "x", { x, sendRows, maxRows: 8 });
          comm.barrier(rec, "x");
        }),
      );
      const replay = async (times: number): Promise<void> => {
        for (let i = 0; i < times; i++) await list.replay(liveRows(8));
        await device.idle();
      };
      await replay(3);
      const { buffers, bindGroups, allocatedBytes } = device.counters;
      await replay(100);
      const after = { ...device.counters };
      list.destroy();
      return [
        after.buffers - buffers,
        after.bindGroups - bindGroups,
        after.allocatedBytes - allocatedBytes,
      ];
    }),
  );
  expect(grown).toEqual([
    [0, 0, 0],
    [0, 0, 0],
  ]);
});
