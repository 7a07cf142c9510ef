import fc from "fast-check";
import { expect } from "vitest";
import { liveRows } from "../../src/device/liveCounts.ts";
import { gatherRows } from "../../src/kernels/gatherRows.ts";
import { randomF32, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

const cases = fc.record({
  numRows: fc.integer({ min: 1, max: 9 }),
  hidden: fc.integer({ min: 1, max: 90 }).map((quads) => 4 * quads),
  picks: fc.array(fc.nat(), { minLength: 1, maxLength: 6 }),
  spareSamples: fc.integer({ min: 0, max: 2 }),
  seed: fc.nat(),
});

test("gatherRows copies the rows of the live samples", async ({ device }) => {
  const agrees = fc.asyncProperty(cases, async ({ numRows, hidden, picks, spareSamples, seed }) => {
    const x = randomF32(numRows * hidden, seed);
    const indices = picks.map((pick) => pick % numRows);
    const maxSamples = picks.length + spareSamples;
    const table = Uint32Array.from({ length: maxSamples }, (_, i) => indices[i] ?? 0xffffffff);
    const out = guarded(device, [maxSamples, hidden]);
    const xGpu = device.upload(x, [numRows, hidden]);
    const indicesGpu = device.upload(table, [maxSamples], "u32");
    await device.run(
      (rec) => {
        gatherRows(rec, { x: xGpu, indices: indicesGpu, out: out.tensor });
      },
      liveRows(numRows, { numSamples: picks.length }),
    );
    const want = indices.flatMap((row) => [...x.subarray(row * hidden, (row + 1) * hidden)]);
    expect([...new Float32Array(await out.read(want.length))]).toEqual(want);
  });
  await fc.assert(agrees, { numRuns: 25 });
});

test("gatherRows names what does not fit", ({ device }) => {
  const [x, out] = [device.empty([4, 8]), device.empty([3, 8])];
  const record = (indices: number): (() => unknown) => {
    const tensor = device.empty([indices], "u32");
    return () =>
      device.record((rec) => {
        gatherRows(rec, { x, indices: tensor, out });
      });
  };
  expect(record(2)).toThrow("indices: expected 3 or more, got 2");
});
