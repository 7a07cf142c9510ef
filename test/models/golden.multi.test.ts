/**
 * Every architecture against Hugging Face transformers, over layouts. A short list in CI; with
 * TANDEM_TEST_FULL=1 (`npm run test:full`) every size, with both executors, and a report.
 */
import { afterAll, expect, test } from "vitest";
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

interface Case {
  readonly fixture: string;
  readonly layout: Required<Pick<TestLayout, "tpSize" | "ppSize" | "executor">>;
}

const isFull = process.env["TANDEM_TEST_FULL"] === "1";
const cases = isFull ? fullCases() : shortCases();
const results: GoldenResult[] = [];

function shortCases(): Case[] {
  const sizes = [
    { tpSize: 1, ppSize: 1 },
    { tpSize: 2, ppSize: 1 },
    { tpSize: 3, ppSize: 2 },
  ];
  const inProcess = FIXTURES.flatMap((fixture) =>
    sizes.map((size): Case => ({ fixture, layout: { ...size, executor: "inProcess" } })),
  );
  const onThreads = { tpSize: 2, ppSize: 2, executor: "workerThreads" } as const;
  return [...inProcess, { fixture: "llama-gqa-tied", layout: onThreads }];
}

/** Every fixture has at least 8 query heads and 3 layers: all of these sizes can be cut. */
function fullCases(): Case[] {
  const executors = ["inProcess", "workerThreads"] as const;
  return executors.flatMap((executor) =>
    FIXTURES.flatMap((fixture) =>
      [1, 2, 3].flatMap((ppSize) =>
        [1, 2, 3, 4, 8].map((tpSize): Case => ({ fixture, layout: { tpSize, ppSize, executor } })),
      ),
    ),
  );
}

const named = cases.map((one) => ({ ...one, name: `${one.fixture}, ${layoutName(one.layout)}` }));

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
    results.push({ fixture, ...layout, maxError, numGreedyTokens, elapsedMs });
  });
});

afterAll(() => {
  const worst = Math.max(...results.map(({ maxError }) => maxError));
  console.log(`golden matrix on ${testAdapter}: worst error ${worst.toExponential(2)} deviations`);
  const isWhole = results.length === cases.length; // a part of it is no report
  if (isFull && isWhole) {
    writeGoldenReport({ adapter: testAdapter, tolerance: LOGIT_TOLERANCE, results });
  }
});
