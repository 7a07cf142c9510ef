/**
 * Would weights stored as tiles of 16 x 16 f16 serve one token, a batch and a prompt? Times kernels over such
 * weights (bench/shaders/) beside those that models use, each checked against them first.
 *
 *   node bench/tiledWeights.ts [--rows 4096 --columns 4096] [--only gemv|few|gemm] [--tokens 2048] [--repeats 5]
 *     [--copies 1]
 *
 * By default the layers of Llama-3.1-8B, and for `gemm` prompts of 2,048 tokens. A line a variant, the last one
 * JSON. On adapters without f16 matrices only the GEMV runs. `--copies 1` reads the same weight each time: from the cache, where that
 * holds it; what a layer would take whose weight had been fetched ahead.
 */
import { parseArgs } from "node:util";
import type { Device, Tensor } from "../src/device/device.ts";
import { NodeOpener } from "../src/device/openNode.ts";
import { hasMatrixKernel } from "../src/kernels/linearMatrix.ts";
import { CaseMemory } from "../src/runtime/bench/kernelCase.ts";
import { timeLaunches } from "../src/runtime/bench/timeLaunches.ts";
import { liveRows } from "../src/device/liveCounts.ts";
import { LAYERS_OF_8B, numColdCopies } from "./layers.ts";
import { type Case, casesOf, toTiles } from "./tiledWeightsCases.ts";

const { values } = parseArgs({
  options: {
    rows: { type: "string" },
    columns: { type: "string" },
    only: { type: "string" },
    tokens: { type: "string", default: "2048" },
    repeats: { type: "string", default: "5" },
    copies: { type: "string" },
  },
});

/** Largest difference from the kernels in use, as a part of their results' root mean square. */
const MAX_ERROR = 1e-2;

interface Weights {
  readonly rows: Tensor; // [rows, columns] f16
  readonly tiles: Tensor; // the same as tiles
}

async function makeWeights(memory: CaseMemory, shape: readonly [number, number]): Promise<Weights> {
  const { device } = memory;
  const rows = await memory.filled(shape, "f16", 2 ** -6);
  const tiles = memory.empty(shape, "f16");
  await device.run((rec) => {
    toTiles(rec, { weight: rows, out: tiles });
  });
  return { rows, tiles };
}

/** The first copy's results: sums over what a variant splits. */
async function resultOf(
  device: Device,
  one: Case,
  { rows, tiles }: Weights,
): Promise<Float32Array> {
  const unwritten = new Float32Array(one.out.numElements).fill(Number.NaN);
  device.write(one.out, new Uint8Array(unwritten.buffer)); // variants share it
  await device.run((rec) => {
    one.record(rec, one.isTiled ? tiles : rows);
  }, liveRows(one.tokens));
  const all = await device.read(one.out);
  const sum = new Float32Array(all.length / one.splits);
  for (let i = 0; i < all.length; i++)
    sum[i % sum.length] = (sum[i % sum.length] ?? 0) + (all[i] ?? 0);
  return sum;
}

function largestError(got: Float32Array, want: Float32Array): number {
  let [squares, largest] = [0, 0];
  want.forEach((value, i) => {
    squares += value * value;
    largest = Math.max(largest, Math.abs((got[i] ?? Number.NaN) - value));
  });
  return largest / Math.sqrt(squares / want.length);
}

interface Line {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly tokens: number;
  readonly us: number;
  readonly gbPerS: number;
  readonly tflops: number;
  readonly error: number;
}

async function measure(
  device: Device,
  shape: readonly [number, number],
  only: string | undefined,
): Promise<Line[]> {
  const [rows, columns] = shape;
  const memory = new CaseMemory(device);
  const bytes = 2 * rows * columns;
  const coldCopies = device.info.isSoftware ? 1 : numColdCopies(bytes);
  const numCopies = values.copies === undefined ? coldCopies : Number(values.copies);
  const lines: Line[] = [];
  try {
    const copies: Weights[] = [];
    for (let i = 0; i < numCopies; i++) copies.push(await makeWeights(memory, shape));
    const [first] = copies;
    if (first === undefined) return [];
    for (const cases of await casesOf(memory, shape, only, Number(values.tokens))) {
      let want: Float32Array | undefined;
      for (const one of cases) {
        const got = await resultOf(device, one, first);
        want ??= got; // of the kernel in use
        const error = largestError(got, want);
        const timed = await timeLaunches(
          device,
          (rec) => {
            for (let call = 0; call < Math.max(numCopies, 16); call++) {
              const copy = copies[call % numCopies] ?? first;
              one.record(rec, one.isTiled ? copy.tiles : copy.rows);
            }
          },
          { live: liveRows(one.tokens), numRepeats: Number(values.repeats), warmUpMs: 100 },
        );
        const sorted = [...timed.launchUs].sort((a, b) => a - b);
        const us = sorted[Math.floor(sorted.length / 2)] ?? 0;
        const tflops = (2 * rows * columns * one.tokens) / us / 1e6;
        const line = { name: one.name, rows, columns, tokens: one.tokens, us, tflops, error };
        lines.push({ ...line, gbPerS: bytes / us / 1e3 });
        const wrong = error <= MAX_ERROR ? "" : `  WRONG by ${error.toExponential(1)}`;
        console.log(
          `${rows} x ${columns}  ${one.name.padEnd(40)} ${us.toFixed(1).padStart(8)} us ${(bytes / us / 1e3).toFixed(0).padStart(6)} GB/s ${tflops.toFixed(1).padStart(7)} TFLOP/s${wrong}`,
        );
      }
    }
  } finally {
    memory.free();
  }
  return lines;
}

const device = await new NodeOpener().open({ index: 0, label: "tiles", disableRobustness: true });
console.log(`${device.info.name}, matrices: ${hasMatrixKernel(device.info) ? "yes" : "no"}`);
const given = values.rows === undefined ? undefined : [Number(values.rows), Number(values.columns)];
const shapes = given === undefined ? LAYERS_OF_8B : [[given[0] ?? 0, given[1] ?? 0] as const];
const lines: Line[] = [];
for (const shape of shapes) lines.push(...(await measure(device, shape, values.only)));
await device.destroy();
console.log(JSON.stringify(lines));
process.exitCode = lines.every(({ error }) => error <= MAX_ERROR) ? 0 : 1;
