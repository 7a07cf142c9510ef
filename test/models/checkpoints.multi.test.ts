/** Trained checkpoints against outputs that are not ours: fable-5m (transformers) and stories260k (llama2.c). */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { testAdapter } from "../support/gpu.ts";
import { expectGreedy, loadGoldens, LOGIT_TOLERANCE, logitError } from "../support/goldens.ts";
import { layoutName, testArgs, type TestLayout, withModel } from "../support/layouts.ts";

const FABLE = new URL("../../models/checkpoints/fable-5m", import.meta.url).pathname;
/** Someone else's weights, so not part of the project: tested where they lie beside the checkout. */
const STORIES = new URL("../../../shared/models/stories260k", import.meta.url).pathname;

/** SwiftShader takes several times as long for the same proof. */
const isSlow = testAdapter === "SwiftShader";

describe("fable-5m", () => {
  test.each([1, 2])("logits and 96 greedy tokens of four prompts at tp %i", async (tpSize) => {
    const goldens = await loadGoldens(FABLE);
    await withModel(await testArgs(FABLE, { tpSize }), async (model) => {
      expect(await logitError(model, goldens)).toBeLessThan(LOGIT_TOLERANCE);
      await expectGreedy(model, goldens);
    });
  });
});

describe("stories260k", () => {
  const all: TestLayout[] = [
    { tpSize: 1 },
    { tpSize: 2 },
    { tpSize: 4 },
    { ppSize: 2 },
    { ppSize: 5 },
  ];
  const layouts = isSlow ? [{ tpSize: 2 }, { ppSize: 2 }] : all;
  test.for(layouts.map((layout) => ({ layout, name: layoutName(layout) })))(
    "200 greedy tokens after BOS, $name",
    async ({ layout }, { skip }) => {
      skip(!existsSync(STORIES), `no ${STORIES}: its licence keeps it out of the project`);
      const wanted = JSON.parse(readFileSync(join(STORIES, "expected_greedy.json"), "utf8")) as {
        bos: number;
        ids: readonly number[];
      };
      await withModel(await testArgs(STORIES, layout), async ({ llm }) => {
        const options = { temperature: 0, maxTokens: 200, ignoreEos: true };
        const { tokenIds, text } = await llm.generate([wanted.bos], options).collect();
        expect(tokenIds).toEqual(wanted.ids);
        expect(text).toBe(readFileSync(join(STORIES, "expected_greedy_200.txt"), "utf8"));
      });
    },
  );
});
