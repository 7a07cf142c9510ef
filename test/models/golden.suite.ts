/**
 * Every architecture against Hugging Face transformers, over layouts. A short list in CI; with
 * TANDEM_TEST_FULL=1 (`npm run test:full`) every size, and a report in bench/results.
 */
import { afterAll, expect, test } from "vitest";
import type { ExecutorKind } from "../../src/runtime/engineArgs.ts";
import { testAdapter } from "../support/gpu.ts";
import { type GoldenResult, writeGoldenReport } from "../support/goldenReport.ts";
import {
  expectGreedy,
  FIXTURES,
  fixtureDir,
  loadGoldens,
  LOGIT_TOLERANCE,
  logitError,
} from "../support/goldens.ts";
import { layoutName, testArgs, type TestLayout, withModel } from "../support/layouts.ts";

/** One fixture on one layout. */
export interface GoldenCase {
  readonly fixture: string;
  readonly layout: Required<Pick<TestLayout, "tpSize" | "ppSize">>;
}

const isFull = process.env["TANDEM_TEST_FULL"] === "1";

/** Every fixture has at least 8 query heads and 3 layers: all of these sizes can be cut. */
const ALL_SIZES = [1, 2, 3].flatMap((ppSize) =>
  [1, 2, 3, 4, 8].map((tpSize) => ({ tpSize, ppSize })),
);

/** All fixtures on each of these layouts. */
export function onAllFixtures(layouts: readonly GoldenCase["layout"][]): GoldenCase[] {
  return FIXTURES.flatMap((fixture) => layouts.map((layout) => ({ fixture, layout })));
}

/**
 * The tests of one executor. A file each: with 24 ranks a process nears the 65,530 memory mappings that
 * Linux gives it, as lavapipe takes one for each bind group.
 */
export function goldenSuite(executor: ExecutorKind, shortCases: readonly GoldenCase[]): void {
  const cases = isFull ? onAllFixtures(ALL_SIZES) : shortCases;
  const results: GoldenResult[] = [];
  const named = cases.map(({ fixture, layout }) => {
    const full = { ...layout, executor };
    return { fixture, layout: full, name: `${fixture}, ${layoutName(full)}` };
  });

  test.each(named)("$name", { timeout: 600_000 }, async ({ fixture, layout }) => {
    const begin = performance.now();
    const goldens = await loadGoldens(fixtureDir(fixture));
    const args = await testArgs(fixtureDir(fixture), layout);
    await withModel(args, async (model) => {
      const maxError = await logitError(model, goldens);
      expect(maxError).toBeLessThan(LOGIT_TOLERANCE);
      await expectGreedy(model, goldens);
      const numGreedyTokens = goldens.reduce((sum, { greedyIds }) => sum + greedyIds.length, 0);
      const elapsedMs = Math.round(performance.now() - begin);
      const { tpSize, ppSize } = layout;
      results.push({ fixture, tpSize, ppSize, maxError, numGreedyTokens, elapsedMs });
    });
  });

  afterAll(() => {
    const worst = Math.max(...results.map(({ maxError }) => maxError)).toExponential(2);
    console.log(`golden matrix, ${executor} on ${testAdapter}: worst error ${worst} deviations`);
    const isWhole = results.length === cases.length; // a part of it is no report
    if (isFull && isWhole) {
      writeGoldenReport({ adapter: testAdapter, executor, tolerance: LOGIT_TOLERANCE, results });
    }
  });
}
