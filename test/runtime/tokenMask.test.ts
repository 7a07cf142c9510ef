import fc from "fast-check";
import { expect, test } from "vitest";
import {
  allowsToken,
  decodeTokenMask,
  emptyTokenMask,
  encodeTokenMask,
  packAllowedTokens,
  tokenMaskOf,
} from "../../src/runtime/tokenMask.ts";

test("a mask survives its trip as text, at any size", () => {
  const cases = fc
    .integer({ min: 1, max: 200_000 })
    .chain((vocabSize) =>
      fc.tuple(fc.constant(vocabSize), fc.array(fc.nat(vocabSize - 1), { maxLength: 20 })),
    );
  const holds = fc.property(cases, ([vocabSize, ids]) => {
    const mask = decodeTokenMask(encodeTokenMask(tokenMaskOf(ids, vocabSize)), vocabSize);
    for (const id of [0, vocabSize - 1, ...ids])
      expect(allowsToken(mask, id)).toBe(ids.includes(id));
  });
  fc.assert(holds, { numRuns: 50 });
});

test("masks that cannot be are named", () => {
  expect(() => decodeTokenMask(encodeTokenMask(emptyTokenMask(32)), 33)).toThrow(
    "token mask: expected 8 bytes, got 4",
  );
  expect(() => packAllowedTokens(emptyTokenMask(32), 33)).toThrow("expected 2 words");
  expect(() => packAllowedTokens(emptyTokenMask(33), 33)).toThrow("at least 1 token");
  expect(() => packAllowedTokens(Uint32Array.of(0, 2), 33)).toThrow("at least 1 token");
  expect(packAllowedTokens(null, 33)).toBe(undefined);
  expect(packAllowedTokens(Uint32Array.of(0, 1), 33)).toBeTypeOf("string");
});
