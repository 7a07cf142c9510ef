import { expect, test } from "vitest";
import { formatPlan, RankTotals, showLoading } from "../../src/cli/loadProgress.ts";
import { CapturedOutput } from "./support/capture.ts";
import { twoRanks } from "./support/layout.ts";

const weights = (rank: number, done: number): Parameters<RankTotals["add"]>[0] => ({
  rank,
  phase: "weights",
  done: done * 1e6,
  total: 4e6,
});

test("the plan has a row for each rank and says once that they are virtual", () => {
  expect(formatPlan(twoRanks)).toBe(
    [
      "models/tiny: weights bf16, KV cache f16, 64 tokens",
      "tp 2 x pp 1 = 2 ranks, inProcess",
      "rank  device     layers  heads  KV heads  vocabulary   MB",
      "   0  0 Toy GPU  0-5     0-3    0         0-15        5.4",
      "   1  0 Toy GPU  0-5     4-7    1         16-31       5.4",
      "Ranks on the same device are virtual devices: they try a layout out, not faster.",
    ].join("\n"),
  );
});

test("the totals are those of the ranks heard of, phase by phase", () => {
  const totals = new RankTotals();
  totals.add(weights(0, 1));
  totals.add({ rank: 0, phase: "pipelines", done: 1, total: 9 });
  expect(totals.add(weights(1, 2))).toEqual({ done: 3e6, total: 8e6 });
  expect(totals.add(weights(0, 4))).toEqual({ done: 6e6, total: 8e6 });
});

test("a log gets a line every 5 seconds and one with the end of each phase", () => {
  const stderr = new CapturedOutput();
  let nowMs = 0;
  const { events, stop } = showLoading(stderr, false, () => nowMs);
  for (const [atMs, rank, done] of [
    [0, 0, 1],
    [10, 1, 1],
    [5000, 0, 2],
    [5010, 0, 4],
    [5020, 1, 4],
  ] as const) {
    nowMs = atMs;
    events.onProgress?.(weights(rank, done));
  }
  expect(stderr.text).toBe("Loading weights: 3.0/8.0 MB\n");
  events.onProgress?.({ rank: 0, phase: "pipelines", done: 9, total: 9 });
  stop();
  stop();
  expect(stderr.text).toBe(
    "Loading weights: 3.0/8.0 MB\nLoading weights: 8.0/8.0 MB\nCompiling pipelines: 9/9\n",
  );
});

test("what was said is not said again", () => {
  const stderr = new CapturedOutput();
  let nowMs = 0;
  const { events, stop } = showLoading(stderr, false, () => nowMs);
  events.onProgress?.(weights(0, 1));
  nowMs = 6000;
  events.onProgress?.(weights(0, 4));
  stop();
  expect(stderr.text).toBe("Loading weights: 4.0/4.0 MB\n");
});

test("nothing is shown when quiet, or after the end", () => {
  const stderr = new CapturedOutput();
  const quiet = showLoading(stderr, true).events;
  quiet.onLayout?.(twoRanks);
  quiet.onProgress?.(weights(0, 4));
  const { events, stop } = showLoading(stderr, false);
  stop();
  events.onProgress?.(weights(0, 4));
  expect(stderr.text).toBe("");
});
