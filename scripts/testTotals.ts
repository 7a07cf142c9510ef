/** The last line of a test run, for people and for whatever counts tests. */

export interface TestTotals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The counts in vitest's JSON report; undefined where vitest ended before it wrote one. */
export function readTotals(readReport: () => string): TestTotals | undefined {
  try {
    const report = JSON.parse(readReport()) as Record<string, number>;
    const {
      numPassedTests: passed = 0,
      numFailedTests = 0,
      numPendingTests = 0,
      numTodoTests = 0,
    } = report;
    return { passed, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
  } catch {
    return undefined;
  }
}

/** `12 passed, 0 failed, 1 skipped`; a run that failed never shows 0 failed. */
export function totalsLine(totals: TestTotals | undefined, exitCode: number): string {
  const { passed, failed, skipped } = totals ?? { passed: 0, failed: 0, skipped: 0 };
  // A file that does not load, or an error outside any test, fails a run without a failed test.
  const shownFailed = exitCode === 0 ? failed : Math.max(1, failed);
  const line = `${passed} passed, ${shownFailed} failed`;
  return skipped === 0 ? line : `${line}, ${skipped} skipped`;
}
