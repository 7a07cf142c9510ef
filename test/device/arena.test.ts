import fc from "fast-check";
import { expect, test } from "vitest";
import { type ArenaPlan, planArena } from "../../src/device/arena.ts";
import type { Launch, RecordedOp } from "../../src/device/launch.ts";
import { OFFSET_ALIGNMENT, Tensor, TensorStorage } from "../../src/device/tensor.ts";

/** A recording of launches over pending storages, by index: what each reads and writes. */
interface Step {
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

function record(sizes: readonly number[], steps: readonly Step[]): RecordedOp[] {
  const tensors = sizes.map(
    (size, i) => new Tensor(new TensorStorage(size * 4, `t${i}`), [size], "f32"),
  );
  const pick = (indices: readonly number[]): Tensor[] => indices.flatMap((i) => tensors[i] ?? []);
  return steps.map(({ inputs, outputs }, i) => ({
    ...(LAUNCH as Launch),
    label: `launch ${i}`,
    inputs: pick(inputs),
    outputs: pick(outputs),
  }));
}

const LAUNCH: Partial<Launch> = {
  kind: "launch",
  params: new Uint8Array(4),
  workgroups: [1, 1, 1],
};

/** Random recordings in which every tensor is written before it is read. */
const recordings = fc
  .record({
    sizes: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 2, maxLength: 12 }),
    seeds: fc.array(fc.array(fc.nat(), { minLength: 1, maxLength: 4 }), { maxLength: 30 }),
  })
  .map(({ sizes, seeds }) => {
    const written: number[] = [];
    const steps = seeds.map((seed): Step => {
      const output = (seed[0] ?? 0) % sizes.length;
      const candidates = written.filter((i) => i !== output);
      const inputs =
        candidates.length === 0
          ? []
          : [...new Set(seed.slice(1).map((s) => candidates[s % candidates.length] ?? 0))];
      written.push(output);
      return { inputs, outputs: [output] };
    });
    return { sizes, steps };
  });

function placementOf(plan: ArenaPlan, label: string): ArenaPlan["placements"][number] {
  const found = plan.placements.find(({ storage }) => storage.label === label);
  if (found === undefined) throw new Error(`${label} was not placed`);
  return found;
}

test("no launch reads and writes one buffer, and live tensors never overlap", () => {
  fc.assert(
    fc.property(recordings, ({ sizes, steps }) => {
      const plan = planArena(record(sizes, steps));
      for (const { inputs, outputs } of steps) {
        for (const input of inputs) {
          for (const output of outputs) {
            const [a, b] = [placementOf(plan, `t${input}`), placementOf(plan, `t${output}`)];
            expect(a.color).not.toBe(b.color);
          }
        }
      }
      const used = plan.placements.map((placement) => {
        const i = Number(placement.storage.label.slice(1));
        const touching = steps.flatMap(({ inputs, outputs }, at) =>
          [...inputs, ...outputs].includes(i) ? [at] : [],
        );
        return { placement, first: Math.min(...touching), last: Math.max(...touching) };
      });
      for (const a of used) {
        expect(a.placement.offsetBytes % OFFSET_ALIGNMENT).toBe(0);
        for (const b of used) {
          const together = a.first <= b.last && b.first <= a.last;
          if (a === b || !together || a.placement.color !== b.placement.color) continue;
          const end = a.placement.offsetBytes + a.placement.storage.sizeBytes;
          const disjoint =
            end <= b.placement.offsetBytes ||
            b.placement.offsetBytes + b.placement.storage.sizeBytes <= a.placement.offsetBytes;
          expect(disjoint).toBe(true);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("a tensor that is dead gives its place to the next", () => {
  const chain = Array.from({ length: 10 }, (_, i) => ({
    inputs: i === 0 ? [] : [i - 1],
    outputs: [i],
  }));
  const plan = planArena(
    record(
      Array.from({ length: 10 }, () => 64),
      chain,
    ),
  );
  // two colours that alternate, one tensor in each
  expect(plan.colorSizes).toEqual([256, 256]);
});

test("reading what nothing has written is an error that names both", () => {
  const ops = record([4, 4], [{ inputs: [0], outputs: [1] }]);
  expect(() => planArena(ops)).toThrow("launch 0: reads t0, which nothing has written");
});
