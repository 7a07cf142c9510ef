import fc from "fast-check";
import { expect, test } from "vitest";
import { rowEdits } from "../../src/runtime/logitEdits.ts";
import { logprobRow, tokenLogprobs } from "../../src/runtime/logprobs.ts";
import { allowsToken, encodeTokenMask, tokenMaskOf } from "../../src/runtime/tokenMask.ts";

const VOCAB = 203;
const ids = fc.uniqueArray(fc.nat(VOCAB - 1), { maxLength: 120 });
const edited = fc.record({
  biased: fc.uniqueArray(fc.nat(VOCAB - 1), { maxLength: 20 }),
  bannedTokenIds: ids,
  allowed: fc.option(ids),
  cuts: fc.uniqueArray(fc.integer({ min: 1, max: VOCAB - 1 }), { maxLength: 4 }),
});

/** What the kernels make of a logit of 0. */
function editedLogit(edits: ReturnType<typeof rowEdits>, localId: number): number {
  if (edits.mask !== undefined && !allowsToken(edits.mask, localId)) return -Infinity;
  const entries = edits.biases.filter(([id]) => id === localId);
  expect(entries.length, "an id twice would be a race").toBeLessThanOrEqual(1);
  return entries[0]?.[1] ?? 0;
}

test("edits of all shards are those of the whole vocabulary, wherever it is cut", () => {
  const holds = fc.property(edited, ({ biased, bannedTokenIds, allowed, cuts }) => {
    const logitBias = biased.map((id) => [id, id / 2 + 1] as const);
    const mask = allowed === null ? undefined : encodeTokenMask(tokenMaskOf(allowed, VOCAB));
    const sequence = {
      logitBias,
      bannedTokenIds,
      ...(mask === undefined ? {} : { allowedTokens: mask }),
    };
    const bounds = [0, ...cuts.toSorted((a, b) => a - b), VOCAB];
    const logits = bounds.slice(1).flatMap((end, i) => {
      const begin = bounds[i] ?? 0;
      const edits = rowEdits(sequence, { begin, end }, VOCAB);
      expect(edits.biases.every(([id]) => id >= 0 && id < end - begin)).toBe(true);
      expect(edits.biases.length).toBeLessThanOrEqual(biased.length + 64);
      return Array.from({ length: end - begin }, (_, id) => editedLogit(edits, id));
    });
    const want = Array.from({ length: VOCAB }, (_, id) => {
      const isOut = bannedTokenIds.includes(id) || allowed?.includes(id) === false;
      return isOut ? -Infinity : biased.includes(id) ? id / 2 + 1 : 0;
    });
    expect(logits).toEqual(want);
  });
  fc.assert(holds, { numRuns: 300 });
});

test("a row without edits has neither entries nor a mask", () => {
  expect(rowEdits({}, { begin: 0, end: VOCAB }, VOCAB)).toEqual({ biases: [], mask: undefined });
});

test("logprobs are a log-softmax, ties go to the lower id", () => {
  const row = logprobRow([1, 3, 3, -1000, 2], 4);
  const total = Math.log(Math.exp(1) + 2 * Math.exp(3) + Math.exp(2));
  expect(row.top.map(([id]) => id)).toEqual([1, 2, 4, 0]);
  for (const [i, [, value]] of row.top.entries()) {
    expect(value).toBeCloseTo(([3, 3, 2, 1][i] ?? 0) - total, 12);
  }
  expect(tokenLogprobs(row, 3).logprob).toBeCloseTo(-1000 - total, 9);
  const large = logprobRow([800, 800], 0);
  expect(large.top).toEqual([]);
  expect(large.logSumExp).toBeCloseTo(800 + Math.LN2, 12);
});
