/**
 * Steps of at most 8 tokens take fused kernels (ResidualStream): logits of every position, and the taps
 * of every layer, where no step has more.
 */
import { expect, test } from "vitest";
import { verifyLayout } from "../../src/runtime/verify.ts";
import { fixtureDir, loadGoldens, LOGIT_TOLERANCE, logitError } from "../support/goldens.ts";
import { testArgs, testOpener, withModel } from "../support/layouts.ts";

test.each([
  { fixture: "llama-odd", tpSize: 1, maxTokens: 1 },
  { fixture: "qwen2-bias", tpSize: 2, maxTokens: 1 },
  { fixture: "llama-gqa-tied", tpSize: 1, maxTokens: 8 },
  { fixture: "qwen3-qknorm", tpSize: 2, maxTokens: 8 },
])(
  "$fixture by $maxTokens tokens a step at tp $tpSize",
  { timeout: 600_000 },
  async ({ fixture, tpSize, maxTokens }) => {
    const args = await testArgs(fixtureDir(fixture), { tpSize });
    const sizes = { maxNumBatchedTokens: maxTokens, maxNumSeqs: Math.min(maxTokens, 4) };
    await withModel({ ...args, ...sizes }, async (model) => {
      const goldens = await loadGoldens(fixtureDir(fixture));
      expect(await logitError(model, goldens)).toBeLessThan(LOGIT_TOLERANCE);
    });
  },
);

test("taps of fused steps agree with one device's", { timeout: 600_000 }, async () => {
  const args = await testArgs(fixtureDir("llama-gqa-tied"), { tpSize: 2, ppSize: 2 });
  const report = await verifyLayout({ ...args, maxNumBatchedTokens: 8 }, [5, 17, 3, 200, 44], {
    hooks: { opener: testOpener },
  });
  expect({ ok: report.ok, first: report.first }).toEqual({ ok: true, first: null });
  expect(report.numTaps).toBe(2 + 4 * 3 + 1); // the embedding, logits, four a layer, one received
});
