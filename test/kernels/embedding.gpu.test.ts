import fc from "fast-check";
import { expect } from "vitest";
import type { WeightDType } from "../../src/common/dtype.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { embedding } from "../../src/kernels/embedding.ts";
import { encodeWeights } from "../oracles/weights.ts";
import { randomF32, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

const SLOT_BIT = 0x80000000;

const cases = fc.record({
  vocabSize: fc.integer({ min: 1, max: 60 }),
  numChunks: fc.integer({ min: 1, max: 80 }), // hidden / 8
  partRows: fc.integer({ min: 1, max: 60 }),
  tokens: fc.array(fc.record({ id: fc.nat(), isSampled: fc.boolean() }), {
    minLength: 1,
    maxLength: 9,
  }),
  spareRows: fc.integer({ min: 0, max: 2 }),
  dtype: fc.constantFrom<WeightDType>("f32", "f16", "bf16"),
  seed: fc.nat(),
});

test("embedding takes ids from the step or from the last sampled tokens", async ({ device }) => {
  const agrees = fc.asyncProperty(cases, async (c) => {
    const { vocabSize, partRows, tokens, dtype } = c;
    const hidden = c.numChunks * 8;
    const { bits, values } = encodeWeights(randomF32(vocabSize * hidden, c.seed), dtype);
    const parts = [];
    for (let begin = 0; begin < vocabSize; begin += partRows) {
      const end = Math.min(begin + partRows, vocabSize);
      const data = bits.slice(begin * hidden, end * hidden);
      parts.push({ tensor: device.upload(data, [end - begin, hidden], dtype), outOffset: begin });
    }
    const ids = tokens.map(({ id }) => id % vocabSize);
    // A sampled token's slot is its position counted from the end.
    const slots = ids.map((_, t) => ids.length - 1 - t);
    const entries = ids.map((id, t) => (tokens[t]?.isSampled ? SLOT_BIT + (slots[t] ?? 0) : id));
    const lastToken = new Uint32Array(ids.length);
    ids.forEach((id, t) => (lastToken[slots[t] ?? 0] = id));
    const capacity = tokens.length + c.spareRows;
    const out = guarded(device, [capacity, hidden]);
    const padded = Uint32Array.from({ length: capacity }, (_, t) => entries[t] ?? 0);
    const args = {
      tokenIds: device.upload(padded, [capacity], "u32"),
      lastToken: device.upload(lastToken, [ids.length], "u32"),
      table: { parts, outFeatures: vocabSize, inFeatures: hidden },
      out: out.tensor,
    };
    await device.run((rec) => {
      embedding(rec, args);
    }, liveRows(ids.length));
    const want = ids.flatMap((id) => [...values.subarray(id * hidden, (id + 1) * hidden)]);
    expect([...new Float32Array(await out.read(want.length))]).toEqual(want);
  });
  await fc.assert(agrees, { numRuns: 25 });
});

test("embedding names what does not fit", ({ device }) => {
  const tensor = device.empty([10, 16], "bf16");
  const table = { parts: [{ tensor, outOffset: 0 }], outFeatures: 10, inFeatures: 16 };
  const ids = device.empty([2], "u32");
  const out = device.empty([2, 24]);
  const record = (): unknown =>
    device.record((rec) => {
      embedding(rec, { tokenIds: ids, lastToken: ids, table, out });
    });
  expect(record).toThrow("out: expected [2, 16], got [2, 24]");
});
