import fc from "fast-check";
import { expect, test } from "vitest";
import type { TunedNumbers } from "../../src/device/adapterInfo.ts";
import { attentionEntry, chooseDecodeVariant } from "../../src/kernels/attentionVariant.ts";
import {
  type LinearAdapter,
  linearCandidates,
  linearEntry,
  type LinearField,
  linearVariants,
} from "../../src/kernels/linearVariant.ts";

const gpu: LinearAdapter = { isSoftware: false, hasSubgroups: true, subgroupMinSize: 32 };
const plainGpu: LinearAdapter = { isSoftware: false, hasSubgroups: false, subgroupMinSize: 0 };
const software: LinearAdapter = { isSoftware: true, hasSubgroups: true, subgroupMinSize: 8 };
const FIELDS: readonly LinearField[] = ["lanes1", "lanes4", "lanes8", "gemmMinRows"];
const shape = { capacity: 512, outFeatures: 2048, inFeatures: 2048, dtype: "bf16" } as const;

/** Lanes of each variant, and where tiles begin. */
function sizes(adapter: LinearAdapter, tuned: TunedNumbers): (number | string)[] {
  return linearVariants(shape, { ...adapter, tuned }).map(({ variant, minRows }) =>
    variant.kind === "gemm" ? `gemm from ${minRows}` : variant.workgroupSize,
  );
}

test("a linear layer takes the measured numbers of its shape, and only those it could choose", () => {
  const entry = linearEntry(shape);
  expect(sizes(gpu, {})).toEqual([256, 128, 64, "gemm from 33"]);
  const numbers = { lanes1: 32, lanes4: 64, lanes8: 32, gemmMinRows: 17 };
  expect(sizes(gpu, { [entry]: numbers })).toEqual([32, 64, 32, "gemm from 17"]);
  expect(sizes(gpu, { "linear bf16 2048x4096": numbers })).toEqual([256, 128, 64, "gemm from 33"]);
  const wild = { lanes1: 512, lanes4: 0, lanes8: 128, gemmMinRows: -1, other: 3 };
  expect(sizes(gpu, { [entry]: wild })).toEqual([256, 128, 64, "gemm from 33"]);
  expect(sizes(software, { [entry]: { lanes1: 64, lanes4: 8 } })).toEqual([64, 8]);
  expect(sizes(software, { [entry]: { lanes1: 256, lanes8: 32 } })).toEqual([32, 32]);
});

/** A number for each field, -1 (no candidate) among them. */
const numbersOf = (adapter: LinearAdapter): fc.Arbitrary<Record<string, number>> =>
  fc
    .tuple(...FIELDS.map((field) => fc.constantFrom(-1, ...linearCandidates(field, adapter))))
    .map((values) => Object.fromEntries(FIELDS.map((field, i) => [field, values[i] ?? -1])));

test("with any measured numbers exactly one variant runs, and its row sums fit 16 KiB", () => {
  const draws = fc.constantFrom(gpu, plainGpu, software).chain((adapter) =>
    fc.record({
      adapter: fc.constant(adapter),
      numbers: numbersOf(adapter),
      numLive: fc.integer({ min: 1, max: 512 }),
    }),
  );
  const holds = fc.property(draws, ({ adapter, numbers, numLive }) => {
    const tuned = { [linearEntry(shape)]: numbers };
    const choices = linearVariants(shape, { ...adapter, tuned });
    const running = choices.filter((c) => c.minRows <= numLive && numLive <= c.maxRows);
    expect(running).toHaveLength(1);
    for (const { variant } of choices) {
      if (variant.kind === "gemm" || variant.rowSum === "alone") continue;
      const values = 4 * variant.tokens;
      expect(variant.workgroupSize).toBeGreaterThanOrEqual(values);
      expect(4 * values * (variant.workgroupSize + 2)).toBeLessThanOrEqual(16_384);
    }
  });
  fc.assert(holds);
});

test("decode attention takes measured lanes where its workgroup memory has room", () => {
  const nvidia = { isSoftware: false, subgroupMinSize: 32, subgroupMaxSize: 32 };
  const lanesOf = (headDim: number, lanes: number, adapter = nvidia): number =>
    chooseDecodeVariant(headDim, 4, {
      ...adapter,
      tuned: { [attentionEntry(headDim, 4)]: { lanes } },
    }).lanes;
  expect(lanesOf(64, 256)).toBe(256);
  expect(lanesOf(128, 128)).toBe(128);
  expect(lanesOf(64, 96)).toBe(128); // no candidate: the default
  expect(lanesOf(256, 256)).toBe(128); // a larger head
  const intel = { isSoftware: false, subgroupMinSize: 16, subgroupMaxSize: 32 };
  expect(lanesOf(64, 256, intel)).toBe(128); // more and smaller subgroups
});
