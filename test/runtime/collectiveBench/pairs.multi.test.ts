/** Pairs of real devices, all ranks in this process; then with a link that loses what one rank sends. */
import { afterAll, describe, expect, test } from "vitest";
import { DeviceCommunicator } from "../../../src/collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { LoopbackHub } from "../../../src/collectives/transport/loopback.ts";
import { SimulatedLink } from "../../../src/collectives/transport/simulatedLink.ts";
import type { Transport } from "../../../src/collectives/transport/transport.ts";
import { worldGroup } from "../../../src/collectives/processGroup.ts";
import type { Device } from "../../../src/device/device.ts";
import { casesOf, DEFAULT_BENCH_OPTIONS } from "../../../src/runtime/collectiveBench/benchPlan.ts";
import { measureBreakdown, STAGES } from "../../../src/runtime/collectiveBench/breakdown.ts";
import { prepareDeviceCase } from "../../../src/runtime/collectiveBench/deviceOps.ts";
import {
  checkPairs,
  DEFAULT_PAIR_OPTIONS,
  type PairReport,
} from "../../../src/runtime/collectiveBench/pairs.ts";
import { mergePairReports } from "../../../src/runtime/collectiveBench/verifySetup.ts";
import { openTestDevice, testAdapter } from "../../support/gpu.ts";

const NUM_RANKS = 3;
const opened: Promise<Device>[] = [];

afterAll(async () => {
  for (const device of await Promise.all(opened)) await device.destroy();
});

function deviceOf(rank: number): Promise<Device> {
  return (opened[rank] ??= openTestDevice(testAdapter, `rank ${rank}`));
}

async function onRanks<T>(
  body: (transport: Transport, device: Device) => Promise<T>,
  wrap: (transport: Transport) => Transport = (transport) => transport,
): Promise<T[]> {
  const hub = new LoopbackHub(NUM_RANKS);
  const ranks = Array.from({ length: NUM_RANKS }, (_, rank) => rank);
  return Promise.all(
    ranks.map(async (rank) => body(wrap(hub.transport(rank)), await deviceOf(rank))),
  );
}

const OPTIONS = { ...DEFAULT_PAIR_OPTIONS, largeBytes: 1 << 20, repeats: 1 };

test("every pair is measured, and every rank has the right sums", async () => {
  const reports = await onRanks((transport, device) => checkPairs(transport, device, OPTIONS));
  const report = mergePairReports(NUM_RANKS, [], reports, undefined);
  expect(report).toMatchObject({ ok: true, failure: null, smokeBytes: [64, 16384, 1 << 20] });
  expect(report.pairs).toHaveLength(6);
  for (const { latencyUs, bandwidthGBps } of report.pairs) {
    expect(Math.min(latencyUs, bandwidthGBps)).toBeGreaterThan(0);
  }
});

async function withFault(link: {
  dropShare?: number;
  corruptShare?: number;
}): Promise<PairReport[]> {
  const options = { ...OPTIONS, timeoutMs: 1500 };
  const wrap = (transport: Transport): Transport =>
    transport.rank === 1 ? new SimulatedLink(transport, link) : transport;
  return onRanks((transport, device) => checkPairs(transport, device, options), wrap);
}

test("a rank whose messages are lost: the first pair that needs one is named", async () => {
  const report = mergePairReports(NUM_RANKS, [], await withFault({ dropShare: 1 }), undefined);
  // rank 1 has what rank 0 sent; its word that it has is the first message that is lost, and both wait
  expect(report.failure).toMatchObject({ pair: { from: 0, to: 1 } });
  expect([0, 1]).toContain(report.failure?.rank);
  expect(report.failure?.message).toMatch(/rank [01] did not arrive within 1500 ms/);
  expect(report.ok).toBe(false);
});

test("a rank that sends damaged bytes: the pair in which they count is named", async () => {
  const report = mergePairReports(NUM_RANKS, [], await withFault({ corruptShare: 1 }), undefined);
  expect(report.failure).toMatchObject({ pair: { from: 1, to: 0 }, rank: 0 });
  expect(report.failure?.message).toMatch(/rank 1 to rank 0: expected what was sent, got 1 of 16/);
});

describe("the device benchmark's own arithmetic", () => {
  const sizes = [16, 1000, 16384];
  const cases = casesOf({ ...DEFAULT_BENCH_OPTIONS, sizes, algorithms: ["oneShot"] }, "device");

  test.each(cases.map((each) => [`${each.op} ${each.sizeBytes}`, each] as const))(
    "%s: nothing wrong, and it can be repeated",
    async (_, asked) => {
      const wrong = await onRanks(async (transport, device) => {
        const host = new HostCommunicator(worldGroup(transport), { algorithm: asked.algorithm });
        const prepared = await prepareDeviceCase(device, new DeviceCommunicator(host), asked);
        const first = await prepared.check();
        await prepared.run();
        await prepared.run();
        prepared.destroy();
        return first;
      });
      expect(wrong).toEqual([0, 0, 0]);
    },
  );

  test("the breakdown has every stage, and their sum is about the whole", async () => {
    const [breakdown] = await onRanks((transport, device) =>
      measureBreakdown(transport, device, 16384, 20),
    );
    const rows = breakdown?.rows.filter(({ what }) => what === "all_reduce") ?? [];
    expect(rows.map(({ stage }) => stage)).toEqual(STAGES);
    for (const { p50Us, p99Us } of rows) expect(p99Us).toBeGreaterThanOrEqual(p50Us);
    const parts = ["submit", "map", "upload", "total"];
    for (const [name, stages] of [
      ["no exchange", [...parts, "slowest"]],
      ["one rank alone", parts],
    ] as const) {
      const trip = breakdown?.rows.filter(({ what }) => what === name) ?? [];
      expect(trip.map(({ stage }) => stage)).toEqual(stages);
    }
    const [one, last] = ["total", "slowest"].map((stage) =>
      breakdown?.rows.find((row) => row.what === "no exchange" && row.stage === stage),
    );
    expect(last?.p50Us ?? 0).toBeGreaterThan(one?.p50Us ?? Infinity);
  });
});
