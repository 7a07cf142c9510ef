/**
 * What a weight costs a GEMV when others are read in between: each launch reads the next of N weights, over and over.
 * Past some gigabytes a GPU no longer remembers where pages lie, and each sweep looks them up anew; a model is one.
 *
 *   node bench/weightSweep.ts [--rows 28672 --columns 4096] [--counts 2,8,16,24,32,40,48,56] [--streams 1,16,64]
 *     [--workgroups 264,528]
 *
 * bf16, one token, no bounds checks; `--streams` are the stretches of the weight that workgroups take turns in,
 * `--workgroups` so many that hold the activations. A line a case, the last one JSON.
 */
import { parseArgs } from "node:util";
import { median } from "../src/common/math.ts";
import { liveRows } from "../src/device/liveCounts.ts";
import { NodeOpener } from "../src/device/openNode.ts";
import { linear, type LinearWeight } from "../src/kernels/linear.ts";
import { type LinearChoice, linearEntry, linearVariants } from "../src/kernels/linearVariant.ts";
import { CaseMemory } from "../src/runtime/bench/kernelCase.ts";
import { timeLaunches } from "../src/runtime/bench/timeLaunches.ts";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "28672" },
    columns: { type: "string", default: "4096" },
    counts: { type: "string", default: "2,8,16,24,32,40,48,56" },
    streams: { type: "string", default: "1,16,64" },
    workgroups: { type: "string", default: "264,528" },
  },
});

/** Launches of a case at least, so that the time of one is no matter of chance. */
const MIN_LAUNCHES = 32;

const listOf = (text: string): number[] => text.split(",").map(Number);
const [outFeatures, inFeatures] = [Number(values.rows), Number(values.columns)];
const counts = listOf(values.counts);
const bytes = 2 * outFeatures * inFeatures;

const device = await new NodeOpener().open({ index: 0, label: "sweep", disableRobustness: true });
const memory = new CaseMemory(device);
const weights: LinearWeight[] = [];
for (let i = 0; i < Math.max(...counts); i++) {
  weights.push(await memory.weight(outFeatures, inFeatures, "bf16"));
}
const x = await memory.filled([1, inFeatures]);
const out = memory.empty([1, outFeatures]);
const shape = { capacity: 1, outFeatures, inFeatures, dtype: "bf16" } as const;
console.log(`${device.info.name}, ${outFeatures} x ${inFeatures} bf16, ${bytes / 1e6} MB each`);

/** The kernel for one token, with other sizes. */
function choiceOf(numbers: Readonly<Record<string, number>>, streams?: number): LinearChoice {
  const tuned = { [linearEntry(shape)]: numbers };
  const [choice] = linearVariants(shape, { ...device.info, tuned });
  if (choice?.variant.kind !== "gemv") throw new Error("expected a GEMV for one token");
  if (streams === undefined) return choice;
  return { ...choice, variant: { ...choice.variant, streams } };
}

const cases = [
  ...listOf(values.streams).map((streams) => ({
    name: `${streams} stretches`,
    choice: choiceOf({ workgroups1: 0 }, streams),
  })),
  ...listOf(values.workgroups).map((workgroups) => ({
    name: `held by ${workgroups}`,
    choice: choiceOf({ workgroups1: workgroups }),
  })),
];
const lines = [];
for (const { name, choice } of cases) {
  for (const count of counts) {
    const { launchUs } = await timeLaunches(
      device,
      (rec) => {
        for (let i = 0; i < Math.max(count, MIN_LAUNCHES); i++) {
          const weight = weights[i % count];
          if (weight !== undefined)
            linear(rec, { x, weight, out, rows: "tokens", choices: [choice] });
        }
      },
      { live: liveRows(1) },
    );
    const us = median(launchUs);
    lines.push({ name, count, sweepBytes: count * bytes, us, gbPerS: bytes / us / 1e3 });
    console.log(
      `${name}, ${count} in turn: ${((count * bytes) / 1e9).toFixed(1)} GB a sweep, ${us.toFixed(1)} us, ${(bytes / us / 1e3).toFixed(0)} GB/s`,
    );
  }
}
memory.free();
await device.destroy();
console.log(JSON.stringify(lines));
