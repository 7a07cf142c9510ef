/** The benchmark's own arithmetic: right results count as right, and a planted error is counted. */
import { describe, expect, test } from "vitest";
import type { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import {
  type BenchCase,
  casesOf,
  type CollectiveRow,
  DEFAULT_BENCH_OPTIONS,
} from "../../../src/runtime/collectiveBench/benchPlan.ts";
import { prepareHostCase } from "../../../src/runtime/collectiveBench/hostOps.ts";
import { benchRank } from "../../../src/runtime/collectiveBench/rankBench.ts";
import { SimulatedLink } from "../../../src/collectives/transport/simulatedLink.ts";
import { closeAll, LOCAL_WORLDS, onEveryRank } from "../../collectives/support/worlds.ts";

const OPTIONS = { ...DEFAULT_BENCH_OPTIONS, sizes: [8, 1000, 16384] };
const CASES = casesOf(OPTIONS, "host");

async function wrongOf(asked: BenchCase, worldSize: number): Promise<number[]> {
  const check = async (host: HostCommunicator): Promise<number> => {
    const prepared = prepareHostCase(host, asked);
    const first = await prepared.check();
    await prepared.run();
    return first + (await prepared.check());
  };
  return onEveryRank(LOCAL_WORLDS["sharedMemory in one thread"], worldSize, check);
}

describe.each([2, 3])("%i ranks", (worldSize) => {
  test.each(CASES.map((each) => [`${each.op} ${each.algorithm} ${each.sizeBytes}`, each] as const))(
    "%s: nothing wrong, also after it was timed",
    async (_, asked) => {
      expect(await wrongOf(asked, worldSize)).toEqual(Array(worldSize).fill(0));
    },
  );
});

async function bench(corruptShare: number): Promise<CollectiveRow[]> {
  const rows: CollectiveRow[] = [];
  const links = LOCAL_WORLDS.loopback(2).map(
    (transport, rank) =>
      new SimulatedLink(transport, { corruptShare: rank === 1 ? corruptShare : 0, seed: 7 }),
  );
  const options = { ...OPTIONS, ops: ["all_reduce"] as const, algorithms: ["oneShot"] as const };
  const plan = {
    ...({ transport: "loopback", memory: "host", cases: casesOf(options, "host") } as const),
    ...{ budgetMs: 1, maxHostBytes: 100_000 },
  };
  const ignore = (): void => undefined;
  const events = { onRow: (row: CollectiveRow) => rows.push(row), onNote: ignore, onSkip: ignore };
  await Promise.all(links.map((link) => benchRank(link, undefined, plan, events)));
  closeAll(links);
  return rows;
}

test("a world's rows: sizes in order, times and bounds above 0, nothing wrong", async () => {
  const rows = await bench(0);
  expect(rows.map(({ sizeBytes }) => sizeBytes)).toEqual([8, 1000, 16384]);
  for (const row of rows) {
    expect(row).toMatchObject({ op: "all_reduce", algorithm: "oneShot", ranks: 2, wrong: 0 });
    expect(Math.min(row.timeUs, row.algbwGBps, row.boundGBps)).toBeGreaterThan(0);
  }
});

test("what does not fit into memory is left out and said", async () => {
  const skipped: string[] = [];
  const options = { ...OPTIONS, ops: ["broadcast"] as const, sizes: [16, 1 << 20] };
  const plan = {
    ...({ transport: "loopback", memory: "host", cases: casesOf(options, "host") } as const),
    ...{ budgetMs: 1, maxHostBytes: 100_000 },
  };
  const transports = LOCAL_WORLDS.loopback(2);
  const events = {
    onRow: (): void => undefined,
    onNote: (): void => undefined,
    onSkip: ({ sizeBytes }: BenchCase, reason: string): void => {
      skipped.push(`${sizeBytes}: ${reason}`);
    },
  };
  await Promise.all(transports.map((each) => benchRank(each, undefined, plan, events)));
  closeAll(transports);
  expect(skipped).toEqual(["1048576: takes 6291456 bytes over 2 ranks; 100000 are free"]);
});
