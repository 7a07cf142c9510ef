import fc from "fast-check";
import { expect } from "vitest";
import { Device } from "../../src/device/device.ts";
import type { SamplingRow } from "../../src/kernels/sampling/samplingRow.ts";
import { sampleOracle } from "../oracles/sampling.ts";
import { test } from "../support/gpu.ts";
import {
  type Batch,
  randomLogits,
  rowOf,
  sampleOnOneRank,
  sampleOverRanks,
} from "./samplingBatch.ts";

const NEAR_TIE = 2e-5; // see lib/random.wgsl: below it two devices may differ

function logitsOf(batch: Batch, row: number): Float32Array {
  return batch.logits.subarray(row * batch.vocab, (row + 1) * batch.vocab);
}

/** Compares with the oracle row by row; returns how many rows were near-ties and not compared. */
function expectOracle(batch: Batch, ids: readonly number[]): number {
  let numNear = 0;
  batch.rows.forEach((row, index) => {
    const want = sampleOracle(logitsOf(batch, index), row);
    if (want.margin < NEAR_TIE) numNear += 1;
    else
      expect([index, ids[index], row], `kept ${want.numKept}`).toEqual([index, want.tokenId, row]);
  });
  return numNear;
}

const anyRow: fc.Arbitrary<SamplingRow> = fc
  .record({
    seed: fc.integer({ min: 0, max: 0xffffffff }),
    position: fc.nat(100_000),
    isGreedy: fc.constantFrom(false, false, false, true),
    temperature: fc.constantFrom(0.05, 0.3, 0.8, 1, 1.7),
    topK: fc.constantFrom(0, 0, 1, 2, 40, 63, 64, 65, 200, 5000),
    topP: fc.constantFrom(1, 1, 0.1, 0.5, 0.9, 0.95, 0.999),
    minP: fc.constantFrom(0, 0, 0, 1e-4, 0.05, 0.5, 1),
  })
  .map(rowOf);

/** Rows of their own slots, over logits of one width. */
const anyBatch = fc
  .record({
    vocab: fc.constantFrom(1, 2, 16, 64, 65, 331, 4099, 9001),
    rows: fc.array(anyRow, { minLength: 8, maxLength: 8 }),
    seed: fc.nat(),
    spread: fc.constantFrom(0.5, 3, 8),
  })
  .map(({ vocab, rows, seed, spread }): Batch => {
    const logits = randomLogits(rows.length * vocab, seed, spread);
    return { vocab, logits, rows: rows.map((row, slot) => ({ ...row, slot: 2 * slot + 1 })) };
  });

test("one rank draws the oracle's token for any parameters", async ({ device }) => {
  let numRows = 0;
  let numNear = 0;
  const agrees = fc.asyncProperty(anyBatch, async (batch) => {
    const { ids, lastToken } = await sampleOnOneRank(device, batch);
    numNear += expectOracle(batch, ids);
    numRows += ids.length;
    expect(batch.rows.map(({ slot }) => lastToken[slot])).toEqual(ids);
  });
  await fc.assert(agrees, { numRuns: 30, seed: 11 });
  expect(numNear).toBeLessThan(numRows / 20);
});

test("larger workgroups draw the same tokens", async ({ device }) => {
  // 128 lanes, so that lists fold in groups; lavapipe compiles 512 for many seconds
  const limits = { ...device.info.limits, maxComputeInvocationsPerWorkgroup: 128 };
  const info = { ...device.info, limits, isSoftware: false };
  const asHardware = new Device(device.gpu, info, device.shaders);
  const agrees = fc.asyncProperty(anyBatch, async (batch) => {
    const cuts = [batch.vocab >> 3, batch.vocab >> 1].filter((cut) => cut > 0);
    for (const { ids } of [
      await sampleOnOneRank(asHardware, batch),
      await sampleOverRanks(asHardware, batch, [...new Set(cuts)]),
    ]) {
      expectOracle(batch, ids);
    }
  });
  await fc.assert(agrees, { numRuns: 6, seed: 8 });
});

test("the draw does not depend on how the vocabulary is sharded", async ({ device }) => {
  let numFull = 0;
  let numDifferent = 0;
  const cutPoints = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 7 });
  const same = fc.asyncProperty(anyBatch, cutPoints, async (batch, points) => {
    const cuts = [...new Set(points.map((at) => 1 + Math.floor(at * (batch.vocab - 1))))]
      .filter((cut) => cut < batch.vocab)
      .sort((a, b) => a - b);
    const one = await sampleOnOneRank(device, batch);
    const many = await sampleOverRanks(device, batch, cuts);
    numFull += many.numFull;
    batch.rows.forEach((row, index) => {
      if (many.ids[index] === one.ids[index]) return;
      expect(sampleOracle(logitsOf(batch, index), row).margin, `row ${index}`).toBeLessThan(
        NEAR_TIE,
      );
      numDifferent += 1;
    });
    expect(batch.rows.map(({ slot }) => many.lastToken[slot])).toEqual(many.ids);
  });
  await fc.assert(same, { numRuns: 20, seed: 5 });
  expect(numFull).toBeGreaterThan(0);
  expect(numDifferent).toBeLessThan(3);
});

test("neither the batch nor the order of its rows changes a draw", async ({ device }) => {
  const vocab = 4099;
  const [rows] = fc.sample(fc.array(anyRow, { minLength: 16, maxLength: 16 }), {
    numRuns: 1,
    seed: 3,
  });
  const slotted = (rows ?? []).map((row, slot) => ({ ...row, slot }));
  const batch: Batch = { vocab, logits: randomLogits(slotted.length * vocab, 9), rows: slotted };
  const { ids } = await sampleOnOneRank(device, batch);
  const again = await sampleOnOneRank(device, batch);
  expect(again.ids).toEqual(ids);
  const order = slotted.map((_, i) => (i * 5 + 3) % slotted.length);
  const shuffled = new Float32Array(batch.logits.length);
  order.forEach((from, to) => {
    shuffled.set(logitsOf(batch, from), to * vocab);
  });
  const moved = await sampleOnOneRank(device, {
    vocab,
    logits: shuffled,
    rows: order.flatMap((from) => slotted[from] ?? []),
  });
  expect(moved.ids).toEqual(order.map((from) => ids[from]));
  const alone = await sampleOnOneRank(device, {
    vocab,
    logits: logitsOf(batch, 7),
    rows: slotted.slice(7, 8),
  });
  expect(alone.ids).toEqual([ids[7]]);
});

test("filters that remove nothing leave the draw as it is", async ({ device }) => {
  const vocab = 48;
  const numRows = 64;
  const logits = randomLogits(numRows * vocab, 21, 1);
  const rowsOf = (fields: Partial<SamplingRow>): SamplingRow[] =>
    Array.from({ length: numRows }, (_, slot) =>
      rowOf({ slot, seed: 77, position: slot, ...fields }),
    );
  const plain = await sampleOnOneRank(device, { vocab, logits, rows: rowsOf({}) });
  const filters = [{ topK: 64 }, { topK: 1000 }, { topP: 0.9999999 }, { minP: 1e-9 }];
  for (const fields of filters) {
    const filtered = await sampleOnOneRank(device, { vocab, logits, rows: rowsOf(fields) });
    expect(filtered.ids).toEqual(plain.ids);
  }
});

test("ties, -inf and NaN", async ({ device }) => {
  const vocab = 331;
  const flat = new Float32Array(vocab).fill(0.25);
  const ends = new Float32Array(vocab).fill(-Infinity);
  [ends[5], ends[300], ends[330]] = [1, 1, Number.NaN];
  const ramp = Float32Array.from({ length: vocab }, (_, i) => -i / 100);
  const none = new Float32Array(vocab).fill(-Infinity);
  const zeros = new Float32Array(vocab).fill(-1);
  [zeros[9], zeros[7], zeros[8]] = [0, -0, 0];
  const cases: readonly [Float32Array, Partial<SamplingRow>, readonly number[]][] = [
    [flat, { isGreedy: true }, [0]],
    [flat, { topK: 1 }, [0]],
    [flat, { topK: 3 }, [0, 1, 2]],
    [flat, { topK: 70 }, Array.from({ length: 70 }, (_, i) => i)],
    [flat, { topK: 100, topP: 0.999 }, Array.from({ length: 100 }, (_, i) => i)],
    [flat, { topP: 2 / 331 }, [0, 1]],
    [flat, { topP: 0.5 }, Array.from({ length: 166 }, (_, i) => i)],
    [ramp, { minP: 0.3 }, Array.from({ length: 121 }, (_, i) => i)],
    [ramp, { minP: 0.3, topK: 110 }, Array.from({ length: 110 }, (_, i) => i)],
    [ends, { isGreedy: true }, [5]],
    [ends, {}, [5, 300]],
    [ends, { topK: 64 }, [5, 300]],
    [ends, { topK: 100 }, [5, 300]],
    [ends, { topP: 0.4 }, [5]],
    [ends, { minP: 0.5 }, [5, 300]],
    [none, { isGreedy: true }, [0]],
    [none, {}, [0]],
    [none, { topK: 4 }, [0]],
    [none, { topK: 80, topP: 0.5 }, [0]],
    [zeros, { isGreedy: true }, [7]],
    [zeros, { minP: 1 }, [7, 8, 9]],
  ];
  for (const [logits, fields, allowed] of cases) {
    const rows = Array.from({ length: 40 }, (_, i) => rowOf({ ...fields, slot: i, position: i }));
    const all = new Float32Array(rows.length * vocab);
    rows.forEach((_, i) => {
      all.set(logits, i * vocab);
    });
    const seen = new Set((await sampleOnOneRank(device, { vocab, logits: all, rows })).ids);
    for (const id of seen) expect(allowed, JSON.stringify(fields)).toContain(id);
    expect(seen.size, JSON.stringify(fields)).toBeGreaterThan(Math.min(allowed.length, 20) * 0.6);
  }
});

test("top-p keeps a prefix that just reaches p, and no more", async ({ device }) => {
  // four equal tokens: every sum is exact, and two of them hold exactly half
  const logits = Float32Array.from([-Infinity, 2, 2, -Infinity, 2, 2]);
  const draw = async (topP: number): Promise<Set<number>> => {
    const rows = Array.from({ length: 60 }, (_, i) => rowOf({ topP, slot: i, position: i }));
    const all = new Float32Array(rows.flatMap(() => [...logits]));
    return new Set((await sampleOnOneRank(device, { vocab: 6, logits: all, rows })).ids);
  };
  expect(await draw(0.5)).toEqual(new Set([1, 2]));
  expect(await draw(0.5000001)).toEqual(new Set([1, 2, 4]));
  expect(await draw(0.25)).toEqual(new Set([1]));
});
