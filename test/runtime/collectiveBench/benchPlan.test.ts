import { expect, test } from "vitest";
import {
  BENCH_OPS,
  busFactor,
  casesOf,
  type CollectiveRow,
  DEFAULT_BENCH_OPTIONS,
  rowOf,
} from "../../../src/runtime/collectiveBench/benchPlan.ts";
import { plotCollectives } from "../../../src/runtime/collectiveBench/plot.ts";

test("by default every operation is measured in every way it has, from 8 bytes to 256 MiB", () => {
  const cases = casesOf(DEFAULT_BENCH_OPTIONS, "host");
  const ways = new Set(cases.map(({ op, algorithm }) => `${op} ${algorithm}`));
  expect([...ways]).toEqual([
    ...["oneShot", "twoShot", "ring", "recursiveDoubling", "halvingDoubling", "twoLevel"].map(
      (algorithm) => `all_reduce ${algorithm}`,
    ),
    ...["reduce_scatter oneShot", "reduce_scatter ring", "all_gather oneShot", "all_gather ring"],
    ...["broadcast", "gather", "all_to_all", "send_recv", "barrier"].map((op) => `${op} oneShot`),
  ]);
  expect(new Set(cases.map(({ op }) => op))).toEqual(new Set(BENCH_OPS));
  const sizes = cases.filter(({ op }) => op === "broadcast").map(({ sizeBytes }) => sizeBytes);
  expect([sizes[0], sizes.at(-1)]).toEqual([8, 256 * 2 ** 20]);
  expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
  expect(DEFAULT_BENCH_OPTIONS.ranks).toEqual([2, 3, 4, 5, 6, 7, 8]);
});

test("options narrow the cases; a barrier has no size", () => {
  const options = {
    ...DEFAULT_BENCH_OPTIONS,
    ops: ["all_reduce", "barrier"] as const,
    algorithms: ["ring"] as const,
    sizes: [1024, 16],
  };
  expect(casesOf(options, "host")).toEqual([
    { op: "all_reduce", algorithm: "ring", sizeBytes: 16 },
    { op: "all_reduce", algorithm: "ring", sizeBytes: 1024 },
    { op: "barrier", algorithm: "oneShot", sizeBytes: 0 },
  ]);
});

test("bus factors are those of nccl-tests", () => {
  const factors = Object.fromEntries(BENCH_OPS.map((op) => [op, busFactor(op, 4)]));
  expect(factors).toEqual({
    all_reduce: 1.5,
    reduce_scatter: 0.75,
    all_gather: 0.75,
    all_to_all: 0.75,
    gather: 0.75,
    broadcast: 1,
    send_recv: 1,
    barrier: 1,
  });
});

const row: CollectiveRow = rowOf({
  ...{ op: "all_reduce", algorithm: "ring", transport: "tcp", memory: "host", ranks: 4 },
  ...{ sizeBytes: 4_000_000, count: 1_000_000, timeUs: 2000, boundGBps: 5, wrong: 0 },
});

test("a row's bandwidths are bytes over time, and that by what a rank must move", () => {
  expect(row).toMatchObject({ algbwGBps: 2, busbwGBps: 3, redop: "sum", type: "f32" });
});

test("the plot has a panel a world, a line a way and one for the bound", () => {
  const rows = [16, 1024, 65536].flatMap((sizeBytes) => [
    { ...row, sizeBytes },
    { ...row, sizeBytes, algorithm: "oneShot" as const },
    { ...row, sizeBytes, ranks: 2 },
    { ...row, sizeBytes: 0, op: "barrier" as const },
  ]);
  const svg = plotCollectives("a < b", rows);
  expect(svg).toContain("a &lt; b");
  expect(svg.match(/<polyline/g)).toHaveLength(2 + 1 + 2); // three ways, two bounds
  expect(svg).toContain("4 ranks, host memory, tcp");
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  expect(plotCollectives("none", [])).toContain("</svg>");
});
