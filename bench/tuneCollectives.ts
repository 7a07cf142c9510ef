/**
 * Measures the all-reduce algorithms and proposes src/collectives/tuningTable.ts' rows.
 *
 *   node bench/tuneCollectives.ts [--ranks 2,4,8] [--transports sharedMemory,tcp] [--sizes 4096,65536]
 *                                 [--budget 150]   milliseconds a case
 *
 * A table for people, then one line of JSON. `bound` is the time that copying the same bytes into and
 * out of shared memory takes, measured in the same run with all ranks at once.
 */
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { ALGORITHMS, type Algorithm } from "../src/collectives/signature.ts";
import { createSharedMemory } from "../src/collectives/transport/sharedMemory.ts";
import type { BenchTransport, RankRow, RankTask } from "./tuneCollectivesRank.ts";

interface Row extends RankRow {
  readonly transport: BenchTransport;
  readonly ranks: number;
}

const KiB = 1024;
const { values } = parseArgs({
  options: {
    ranks: { type: "string", default: "2,4,8" },
    transports: { type: "string", default: "sharedMemory,tcp" },
    sizes: {
      type: "string",
      default: [4, 16, 32, 64, 128, 256, 1024, 4096].map((k) => k * KiB).join(),
    },
    algorithms: {
      type: "string",
      default: ALGORITHMS.filter((name) => name !== "twoLevel").join(),
    },
    budget: { type: "string", default: "150" },
  },
});
const numbers = (list: string): number[] => list.split(",").map(Number);
const algorithms = values.algorithms.split(",") as Algorithm[];

async function measure(transport: BenchTransport, worldSize: number): Promise<Row[]> {
  const common = {
    worldSize,
    transport,
    descriptor: createSharedMemory(worldSize),
    algorithms,
    sizes: numbers(values.sizes),
    budgetMs: Number(values.budget),
  };
  const workers = Array.from({ length: worldSize }, (_, rank) => {
    const workerData: RankTask = { ...common, rank };
    return new Worker(new URL("./tuneCollectivesRank.ts", import.meta.url), { workerData });
  });
  const ports = new Map<number, number>();
  const reports = workers.map(
    (worker, rank) =>
      new Promise<readonly RankRow[]>((resolve, reject) => {
        worker.on("error", reject);
        worker.on("message", (message: { port?: number; rows?: RankRow[] }) => {
          if (message.port !== undefined) ports.set(rank, message.port);
          if (ports.size === worldSize) {
            const list = workers.map((_, index) => ports.get(index) ?? 0);
            for (const each of workers) each.postMessage(list);
            ports.clear();
          }
          if (message.rows !== undefined) resolve(message.rows);
        });
      }),
  );
  const [rows = []] = await Promise.all(reports);
  return rows.map((row) => ({ transport, ranks: worldSize, ...row }));
}

function print(rows: readonly Row[]): void {
  const bytes = [...new Set(rows.map((row) => row.bytes))];
  const names = [...algorithms, "copy" as const];
  console.log(["bytes".padStart(9), ...names.map((name) => name.padStart(18))].join(""));
  for (const size of bytes) {
    const cells = names.map((name) => {
      const row = rows.find((other) => other.bytes === size && other.algorithm === name);
      return (row === undefined ? "-" : `${row.us.toFixed(0)} (${row.p10Us.toFixed(0)})`).padStart(
        18,
      );
    });
    console.log([String(size).padStart(9), ...cells].join(""));
  }
}

/** The largest size up to which `name` is the quickest, or within 10% of it, from the smallest on. */
function limitOf(rows: readonly Row[], name: Algorithm, others: readonly Algorithm[]): number {
  let limit = 0;
  for (const size of [...new Set(rows.map((row) => row.bytes))]) {
    const us = (other: Algorithm): number =>
      rows.find((row) => row.bytes === size && row.algorithm === other)?.p10Us ?? Infinity;
    if (us(name) > 1.1 * Math.min(...others.map(us))) break;
    limit = size;
  }
  return limit;
}

/** A row for tuningTable.ts. */
function printRow(worldSize: number, rows: readonly Row[]): void {
  const steps = ["oneShot", "recursiveDoubling", "halvingDoubling", "ring"] as const;
  let [left, limits] = [rows, `worldSize: ${worldSize}`];
  for (const [index, step] of steps.slice(0, -1).entries()) {
    const limit = limitOf(left, step, steps.slice(index + 1));
    left = left.filter(({ bytes }) => bytes > limit);
    limits += `, ${step}: ${limit / KiB} * KiB`;
  }
  console.log(`  { ${limits} },`);
}

const all: Row[] = [];
for (const transport of values.transports.split(",") as BenchTransport[]) {
  for (const worldSize of numbers(values.ranks)) {
    const rows = await measure(transport, worldSize);
    all.push(...rows);
    console.log(`\n${transport}, ${worldSize} ranks, µs: median (10th percentile)`);
    print(rows);
    printRow(worldSize, rows);
  }
}
const setting = {
  node: process.version,
  cpu: cpus()[0]?.model,
  cores: navigator.hardwareConcurrency,
};
console.log(JSON.stringify({ bench: "tuneCollectives", ...setting, rows: all }));
