/**
 * Do tensor cores gain when workgroups that start together do not load together? Times linear_matrix_wide (32 tokens)
 * and linear_matrix (2,048) with workgroups that begin in phases; see shaders/lib/stagger.wgsl.
 *
 *   node bench/stagger.ts [--steps 0,50,100,200,400] [--phases 2,4] [--tokens 32,2048] [--splits 1,2,4,8]
 *
 * The layers of Llama-3.1-8B in f16, weights cold. A line a case, in us a launch by steps; the last one JSON.
 */
import { parseArgs } from "node:util";
import { median } from "../src/common/math.ts";
import { liveRows } from "../src/device/liveCounts.ts";
import { NodeOpener } from "../src/device/openNode.ts";
import { linear, type LinearArgs, type LinearWeight } from "../src/kernels/linear.ts";
import { halvesRows, hasMatrixKernel, linearSplit } from "../src/kernels/linearMatrix.ts";
import { CaseMemory } from "../src/runtime/bench/kernelCase.ts";
import { timeLaunches } from "../src/runtime/bench/timeLaunches.ts";
import { LAYERS_OF_8B, numColdCopies } from "./layers.ts";

const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "0,50,100,200,400" },
    phases: { type: "string", default: "2,4" },
    tokens: { type: "string", default: "32,2048" },
    splits: { type: "string", default: "1,2,4,8" },
  },
});

/** Past so many tokens k is in one part. */
const MAX_SPLIT_TOKENS = 64;

const listOf = (text: string): number[] => text.split(",").map(Number);
const device = await new NodeOpener().open({ index: 0, label: "stagger", disableRobustness: true });
if (!hasMatrixKernel(device.info)) throw new Error(`${device.info.name}: no f16 subgroup matrices`);
const results = [];
for (const [rows, columns] of LAYERS_OF_8B) {
  const memory = new CaseMemory(device);
  const numCopies = numColdCopies(2 * rows * columns);
  const weights: LinearWeight[] = [];
  for (let i = 0; i < numCopies; i++) weights.push(await memory.weight(rows, columns, "f16"));
  for (const tokens of listOf(values.tokens)) {
    const isSplit = tokens <= MAX_SPLIT_TOKENS;
    const x = await memory.filled([halvesRows(tokens), columns], "f16");
    for (const splits of isSplit ? listOf(values.splits) : [1]) {
      const out = memory.empty([splits * tokens, rows]);
      for (const phases of listOf(values.phases)) {
        const line = [];
        for (const steps of listOf(values.steps)) {
          const { launchUs } = await timeLaunches(
            device,
            (rec) => {
              for (let i = 0; i < Math.max(numCopies, 16); i++) {
                const weight = weights[i % numCopies];
                if (weight === undefined) continue;
                const args: LinearArgs = {
                  ...{ x, weight, out, rows: "tokens" },
                  stagger: { steps, phases },
                };
                if (isSplit) linearSplit(rec, args, splits);
                else linear(rec, args);
              }
            },
            { live: liveRows(tokens) },
          );
          const us = median(launchUs);
          line.push(us);
          results.push({ rows, columns, tokens, splits, phases, steps, us });
        }
        const cells = line.map((us) => us.toFixed(1)).join("  ");
        console.log(
          `${tokens} x ${columns} -> ${rows}, ${splits} parts, ${phases} phases: ${cells}`,
        );
      }
    }
  }
  memory.free();
}
await device.destroy();
console.log(JSON.stringify(results));
