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
  const { tokens, workgroupSize, rowSum, activations, maxWorkgroups } = variant;
  if (maxWorkgroups !== undefined)
    return `gemv ${tokens} x ${workgroupSize} held by ${maxWorkgroups} ${rows}`;
  return `gemv ${tokens} x ${workgroupSize} ${rowSum} ${activations} ${rows}`;
}

interface Row {
  readonly name: string;
  readonly adapter: LinearAdapter;
  readonly capacity: number;
  readonly outFeatures?: number;
  readonly inFeatures: number;
  readonly want: readonly string[];
}

const table: readonly Row[] = [
  {
    name: "lavapipe, decode",
    adapter: lavapipe,
    capacity: 1,
    inFeatures: 256,
    want: ["gemv 1 x 32 alone broadcast 1-1"],
  },
  {
    name: "SwiftShader, prefill",
    adapter: swiftShader,
    capacity: 512,
    inFeatures: 256,
    want: ["gemv 1 x 32 alone broadcast 1-1", "gemv 4 x 32 alone broadcast 2-"],
  },
  {
    name: "software without subgroups",
    adapter: plainSoftware,
    capacity: 1,
    inFeatures: 256,
    want: ["gemv 1 x 32 alone load 1-1"],
  },
  {
    name: "Llama 1B o_proj, decode",
    adapter: nvidia,
    capacity: 1,
    inFeatures: 2048,
    want: ["gemv 1 x 256 subgroup load 1-1"],
  },
  {
    name: "Llama 1B lm_head, decode",
    adapter: nvidia,
    capacity: 1,
    outFeatures: 128_256,
    inFeatures: 2048,
    want: ["gemv 1 x 128 held by 1056 1-1"],
  },
  {
    name: "Llama 8B qkv_proj, decode",
    adapter: nvidia,
    capacity: 1,
    outFeatures: 6144,
    inFeatures: 4096,
    want: ["gemv 1 x 256 held by 528 1-1"],
  },
  {
    name: "Llama 1B down_proj, prefill",
    adapter: nvidia,
    capacity: 512,
    inFeatures: 8192,
    want: [
      "gemv 1 x 256 subgroup load 1-1",
      "gemv 4 x 128 subgroup load 2-4",
      "gemv 8 x 64 subgroup load 5-32",
      "gemm 33-",
    ],
  },
  {
    name: "a batch of 8, narrow, no subgroups",
    adapter: plainGpu,
    capacity: 8,
    inFeatures: 256,
    want: [
      "gemv 1 x 32 memory load 1-1",
      "gemv 4 x 32 memory load 2-4",
      "gemv 8 x 32 memory load 5-32",
    ],
  },
];

test.for(table)("$name", ({ adapter, capacity, outFeatures = 2048, inFeatures, want }) => {
  const shape = { capacity, outFeatures, inFeatures, dtype: "bf16" } as const;
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

test("a shared row sum has a lane for each value, and fits 16 KiB of workgroup memory", () => {
  for (const adapter of [nvidia, plainGpu]) {
    for (const inFeatures of [8, 512, 2048, 16_384]) {
      const shape = { capacity: 64, outFeatures: 8, inFeatures, dtype: "f16" } as const;
      for (const { variant } of linearVariants(shape, adapter)) {
        if (variant.kind === "gemm") continue;
        const values = 4 * variant.tokens;
        expect(variant.workgroupSize).toBeGreaterThanOrEqual(values);
        const bytes = 4 * values * (variant.workgroupSize + 2); // as in row_sum_memory.wgsl
        expect(bytes).toBeLessThanOrEqual(16_384);
      }
    }
  }
});
