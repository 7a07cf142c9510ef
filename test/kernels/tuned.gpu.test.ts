/** Kernels with every number that autotuning may choose: the results stay right. */
import fc from "fast-check";
import type { Device } from "../../src/device/device.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { attentionEntry, chooseWholeVariant } from "../../src/kernels/attentionVariant.ts";
import { linear } from "../../src/kernels/linear.ts";
import {
  linearCandidates,
  linearEntry,
  type LinearField,
  linearVariants,
} from "../../src/kernels/linearVariant.ts";
import { linearOracle } from "../oracles/linear.ts";
import { expectClose, randomF32, test, testDeviceIndex } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";
import { type Case, runStep } from "./attentionStep.ts";
import { uploadWeight } from "./linearCase.ts";

interface Tuning {
  readonly field: LinearField;
  readonly value: number;
  readonly isSoftware: boolean;
}

/** Every candidate of both kinds of adapter: software's run everywhere, hardware's too. */
const tunings: readonly Tuning[] = [true, false].flatMap((isSoftware) =>
  (["workgroups1", "lanes1", "lanes4", "lanes8", "gemmMinRows"] as const).flatMap((field) =>
    linearCandidates(field, { isSoftware }).map((value) => ({ field, value, isSoftware })),
  ),
);
/** Live rows that reach the variant of each field. */
const ROWS: Readonly<Record<LinearField, (value: number) => number>> = {
  workgroups1: () => 1,
  lanes1: () => 1,
  lanes4: () => 3,
  lanes8: () => 7,
  gemmMinRows: (value) => value,
};

async function checkLinear(
  device: Device,
  { field, value, isSoftware }: Tuning,
  numChunks: number,
  numOutputs: number,
): Promise<void> {
  const seed = 31 * numChunks + numOutputs;
  const weightCase = { numOutputs, numChunks, firstPart: 0, dtype: "bf16", isSwiglu: false, seed };
  const { weight, values } = uploadWeight(device, weightCase as Parameters<typeof uploadWeight>[1]);
  const numRows = ROWS[field](value);
  const { inFeatures, outFeatures } = weight;
  const shape = { capacity: numRows, outFeatures, inFeatures, dtype: "bf16" } as const;
  const tuned = { [linearEntry(shape)]: { [field]: value } };
  const choices = linearVariants(shape, { ...device.info, isSoftware, tuned });
  const x = randomF32(numRows * inFeatures, seed + 1);
  const out = guarded(device, [numRows, outFeatures]);
  const xGpu = device.upload(x, [numRows, inFeatures]);
  await device.run((rec) => {
    linear(rec, { x: xGpu, weight, out: out.tensor, rows: "tokens", choices });
  }, liveRows(numRows));
  const want = linearOracle({ x, weight: values, inFeatures, outFeatures });
  expectClose(new Float32Array(await out.read()), want, { rtol: 1e-5, atol: 1e-5 });
}

test.for(tunings)(
  "linear with $field $value (software kernels: $isSoftware) matches the f64 oracle",
  async (tuning, { device }) => {
    const sizes = fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70 }));
    const agrees = fc.asyncProperty(sizes, async ([numChunks, numOutputs]) => {
      await checkLinear(device, tuning, numChunks, numOutputs);
    });
    await fc.assert(agrees, { numRuns: 3 });
  },
);

test("decode attention with 128 and with 256 lanes matches the f64 oracle", async ({
  device,
  skip,
}) => {
  skip(device.info.subgroupMinSize < 32, "256 lanes need subgroups of 32");
  for (const lanes of [128, 256]) {
    const tuned = { [attentionEntry(64, 4)]: { lanes }, [attentionEntry(128, 4)]: { lanes } };
    const index = await testDeviceIndex();
    const other = await new NodeOpener().open({ index, label: `${lanes} lanes`, tuned });
    try {
      for (const headDim of [64, 128]) {
        const step: Case = {
          numHeads: 8,
          numKvHeads: 2,
          headDim,
          blockSize: 16,
          kvDType: "f16",
          slidingWindow: 0,
          splitBlocks: 4,
          sequences: [
            { numCached: 333, numTokens: 1 },
            { numCached: 5, numTokens: 1 },
          ],
          seed: lanes + headDim,
          tuning: "hardware",
        };
        const { got, want } = await runStep(other, step);
        expectClose(got, want, { rtol: 2e-5, atol: 4e-6 });
      }
    } finally {
      await other.destroy();
    }
  }
});

const sequences = [
  { numCached: 0, numTokens: 1 },
  { numCached: 333, numTokens: 1 },
  { numCached: 5, numTokens: 1 },
  { numCached: 40, numTokens: 7 },
];

test("decode attention of whole contexts matches the f64 oracle, as does that of splits beside it", async ({
  device,
  skip,
}) => {
  const shapes = [
    { numHeads: 8, numKvHeads: 2, headDim: 32, kvDType: "f16" },
    { numHeads: 3, numKvHeads: 1, headDim: 64, kvDType: "f32" },
  ] as const;
  const runnable = shapes.filter(({ numHeads, numKvHeads, headDim }) => {
    const hardware = { ...device.info, isSoftware: false };
    return chooseWholeVariant(headDim, numHeads / numKvHeads, hardware) !== undefined;
  });
  skip(runnable.length === 0, "no adapter for the kernel: it takes subgroups and 256 lanes");
  const entries = runnable.map(({ numHeads, numKvHeads, headDim }) => [
    attentionEntry(headDim, numHeads / numKvHeads),
    { wholeContext: 512 },
  ]);
  const index = await testDeviceIndex();
  const tuned = Object.fromEntries(entries) as Record<string, Record<string, number>>;
  const other = await new NodeOpener().open({ index, label: "whole contexts", tuned });
  try {
    for (const shape of runnable) {
      for (const [splitBlocks, slidingWindow] of [
        [100, 0],
        [100, 20],
        [4, 0],
      ] as const) {
        const isTiled = shape.headDim === 32 && slidingWindow > 0;
        const step: Case = {
          ...shape,
          ...{ blockSize: 16, slidingWindow, splitBlocks, isTiled, sequences, seed: 5 },
          tuning: "hardware",
        };
        const { got, want } = await runStep(other, step);
        expectClose(got, want, isTiled ? { rtol: 6e-4, atol: 1e-6 } : { rtol: 2e-5, atol: 4e-6 });
      }
    }
  } finally {
    await other.destroy();
  }
});
