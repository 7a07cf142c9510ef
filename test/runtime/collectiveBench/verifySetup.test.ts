import { expect, test } from "vitest";
import {
  orderedPairs,
  type PairFailure,
  type PairReport,
} from "../../../src/runtime/collectiveBench/pairs.ts";
import { mergePairReports } from "../../../src/runtime/collectiveBench/verifySetup.ts";

const smoke = [{ sizeBytes: 64, wrong: 0 }];
const fine = (rank: number): PairReport => ({
  rank,
  pairs: orderedPairs(3)
    .filter(({ from }) => from === rank)
    .map((pair) => ({ ...pair, latencyUs: 10 * rank + pair.to, bandwidthGBps: 1 })),
  smoke,
  failure: null,
});
const failed = (rank: number, failure: PairFailure): PairReport => ({ ...fine(rank), failure });

test("every ordered pair, once", () => {
  const pairs = orderedPairs(3).map(({ from, to }) => `${from}>${to}`);
  expect(pairs).toEqual(["0>1", "0>2", "1>0", "1>2", "2>0", "2>1"]);
});

test("all well: pairs in order, whoever reported first", () => {
  const report = mergePairReports(3, [], [fine(2), fine(0), fine(1)], undefined);
  expect(report).toMatchObject({ ok: true, failure: null, smokeBytes: [64] });
  expect(report.pairs.map(({ latencyUs }) => latencyUs)).toEqual([1, 2, 10, 12, 20, 21]);
});

test("of several failures that of a member of the pair counts, not of who was told", () => {
  const pair = { from: 0, to: 2 };
  const reports = [
    failed(0, { pair, message: "aborted by rank 2", isEcho: true }),
    failed(1, { pair, message: "rank 0 did not arrive", isEcho: false }),
    failed(2, { pair, message: "rank 0 began it but did not finish", isEcho: false }),
  ];
  expect(mergePairReports(3, [], reports, undefined)).toMatchObject({
    ok: false,
    failure: { pair, rank: 2, message: "rank 0 began it but did not finish" },
  });
});

test("a rank without a report is a failure", () => {
  const report = mergePairReports(3, [], [fine(0), fine(1)], "rank 2: its worker thread died");
  expect(report).toMatchObject({ ok: false, smokeBytes: [] });
  expect(report.failure).toEqual({ pair: null, rank: null, message: "rank 2: its worker thread died" }); // prettier-ignore
});
