import fc from "fast-check";
import { expect, test } from "vitest";
import type { WeightDType } from "../../src/common/dtype.ts";
import {
  type LinearAdapter,
  type LinearChoice,
  linearVariants,
} from "../../src/kernels/linearVariant.ts";

const lavapipe: LinearAdapter = { isSoftware: true, hasSubgroups: true, subgroupMinSize: 8 };
const swiftShader: LinearAdapter = { isSoftware: true, hasSubgroups: true, subgroupMinSize: 4 };
const plainSoftware: LinearAdapter = { isSoftware: true, hasSubgroups: false, subgroupMinSize: 0 };
const nvidia: LinearAdapter = { isSoftware: false, hasSubgroups: true, subgroupMinSize: 32 };
const plainGpu: LinearAdapter = { isSoftware: false, hasSubgroups: false, subgroupMinSize: 0 };

/** "gemv 1 x 64 subgroup load 1-1": tokens, workgroup size, row sum, activations, live rows. */
function describe({ variant, minRows, maxRows }: LinearChoice): string {
  const rows = `${minRows}-${maxRows === Infinity ? "" : maxRows}`;
  if (variant.kind === "gemm") return `gemm ${rows}`;
  const { tokens, workgroupSize, rowSum, activations } = variant;
  return `gemv ${tokens} x ${workgroupSize} ${rowSum} ${activations} ${rows}`;
}

const table: [name: string, LinearAdapter, capacity: number, inFeatures: number, string[]][] = [
  ["lavapipe decode", lavapipe, 1, 256, ["gemv 1 x 32 alone broadcast 1-1"]],
  [
    "SwiftShader prefill",
    swiftShader,
    512,
    256,
    ["gemv 1 x 32 alone broadcast 1-1", "gemv 4 x 32 alone broadcast 2-"],
  ],
  ["software without subgroups", plainSoftware, 1, 256, ["gemv 1 x 32 alone load 1-1"]],
  ["Llama 1B decode", nvidia, 1, 2048, ["gemv 1 x 64 subgroup load 1-1"]],
  [
    "Llama 1B prefill",
    nvidia,
    512,
    8192,
    [
      "gemv 1 x 64 subgroup load 1-1",
      "gemv 4 x 64 subgroup load 2-4",
      "gemv 8 x 64 subgroup load 5-32",
      "gemm 33-",
    ],
  ],
  [
    "a batch of 8, narrow, no subgroups",
    plainGpu,
    8,
    256,
    ["gemv 1 x 32 memory load 1-1", "gemv 4 x 32 memory load 2-4", "gemv 8 x 32 memory load 5-32"],
  ],
];

test.for(table)("%s", ([, adapter, capacity, inFeatures, want]) => {
  const shape = { capacity, outFeatures: 512, inFeatures, dtype: "bf16" } as const;
  expect(linearVariants(shape, adapter).map(describe)).toEqual(want);
});

test("exactly one variant runs for any live count", () => {
  const shapes = fc.record({
    capacity: fc.integer({ min: 1, max: 9000 }),
    outFeatures: fc.integer({ min: 1, max: 130_000 }),
    inFeatures: fc.integer({ min: 1, max: 2000 }).map((chunks) => 8 * chunks),
    dtype: fc.constantFrom<WeightDType>("f32", "f16", "bf16"),
  });
  const adapters = fc.constantFrom(lavapipe, swiftShader, plainSoftware, nvidia, plainGpu);
  const oneRuns = fc.property(shapes, adapters, fc.nat(), (shape, adapter, drawn) => {
    const numLive = 1 + (drawn % shape.capacity);
    const choices = linearVariants(shape, adapter);
    const running = choices.filter((c) => c.minRows <= numLive && numLive <= c.maxRows);
    expect(running).toHaveLength(1);
  });
  fc.assert(oneRuns);
});

test("a shared row sum has a lane for each of its values", () => {
  for (const adapter of [nvidia, plainGpu]) {
    const shape = { capacity: 64, outFeatures: 8, inFeatures: 64, dtype: "f16" } as const;
    for (const { variant } of linearVariants(shape, adapter)) {
      if (variant.kind === "gemm") continue;
      expect(variant.workgroupSize).toBeGreaterThanOrEqual(4 * variant.tokens);
    }
  }
});
