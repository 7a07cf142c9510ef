/**
 * The linear layers' kernels on tensor cores, each by itself, weights cold: which one to take for a shape.
 *
 *   node bench/matrixKernels.ts [--shapes 4096x4096,28672x4096] [--tokens 32,128,512,2048] [--dtype f16]
 *
 * Shapes are rows x columns of the weight; by default the layers of Llama-3.1-8B. Up to 64 tokens: the kernels of
 * batched decode, with k in 1 to 8 parts; past that those of prompts. A line a kernel, the last one JSON.
 */
import { parseArgs } from "node:util";
import type { WeightDType } from "../src/common/dtype.ts";
import { median } from "../src/common/math.ts";
import { liveRows } from "../src/device/liveCounts.ts";
import { NodeOpener } from "../src/device/openNode.ts";
import type { Recorder } from "../src/device/recorder.ts";
import type { LinearArgs, LinearWeight } from "../src/kernels/linear.ts";
import {
  halvesShape,
  hasMatrixKernel,
  linearMatrix,
  linearSplit,
  MAX_FEW_TOKENS,
} from "../src/kernels/linearMatrix.ts";
import { CaseMemory } from "../src/runtime/bench/kernelCase.ts";
import { timeLaunches } from "../src/runtime/bench/timeLaunches.ts";

const { values } = parseArgs({
  options: {
    shapes: { type: "string", default: "6144x4096,4096x4096,28672x4096,4096x14336" },
    tokens: { type: "string", default: "32,128,512,2048" },
    dtype: { type: "string", default: "f16" },
  },
});

/** Bytes of copies of a weight which, read in turn, are more than any cache holds. */
const COLD_BYTES = 512 << 20;
const LAUNCHES = 24;
const ALL = { minRows: 1, maxRows: Infinity };

interface Kernel {
  readonly name: string;
  readonly splits: number;
  readonly record: (rec: Recorder, args: LinearArgs) => void;
}

function kernelsFor(tokens: number): Kernel[] {
  if (tokens > MAX_FEW_TOKENS) {
    return (["staged", "stream"] as const).map((kind) => ({
      name: kind,
      splits: 1,
      record: (rec, args) => {
        linearMatrix(rec, args, ALL, kind);
      },
    }));
  }
  const split = (tileRows: 64 | 128, splits: number): Kernel => ({
    name: `${tileRows} rows, ${splits} parts`,
    splits,
    record: (rec, args) => {
      linearSplit(rec, args, splits, tileRows);
    },
  });
  return ([64, 128] as const).flatMap((rows) => [1, 2, 4, 8].map((splits) => split(rows, splits)));
}

const device = await new NodeOpener().open({ index: 0, label: "bench", disableRobustness: true });
if (!hasMatrixKernel(device.info)) throw new Error(`${device.info.name}: no f16 subgroup matrices`);
const results = [];
for (const shape of values.shapes.split(",")) {
  const [rows = 0, columns = 0] = shape.split("x").map(Number);
  const memory = new CaseMemory(device);
  const numCopies = Math.max(2, Math.ceil(COLD_BYTES / (2 * rows * columns)));
  const weights: LinearWeight[] = [];
  for (let i = 0; i < numCopies; i++) {
    weights.push(await memory.weight(rows, columns, values.dtype as WeightDType));
  }
  for (const tokens of values.tokens.split(",").map(Number)) {
    const x = await memory.filled(halvesShape(tokens, columns), "f16");
    for (const { name, splits, record } of kernelsFor(tokens)) {
      const out = memory.empty([splits * tokens, rows]);
      const times = await timeLaunches(
        device,
        (rec) => {
          for (let i = 0; i < LAUNCHES; i++) {
            const weight = weights[i % numCopies];
            if (weight !== undefined) record(rec, { x, weight, out, rows: "tokens" });
          }
        },
        { live: liveRows(tokens), warmUpMs: 100 },
      );
      const us = median(times.launchUs);
      const tflops = (2 * tokens * rows * columns) / us / 1e6;
      const gbPerS = (2 * rows * columns) / us / 1e3;
      results.push({
        rows,
        columns,
        tokens,
        dtype: values.dtype,
        kernel: name,
        us,
        tflops,
        gbPerS,
      });
      const figures = `${us.toFixed(1)} us  ${gbPerS.toFixed(0)} GB/s of weight  ${tflops.toFixed(0)} TFLOP/s`;
      console.log(`${tokens} x ${columns} -> ${rows}  ${name.padEnd(18)} ${figures}`);
    }
  }
  memory.free();
}
await device.destroy();
console.log(JSON.stringify(results));
