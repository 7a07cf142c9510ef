/** `verify-setup`: what the ranks of a layout reported of every pair of them, put together. */
import type { PairFailure, PairReport, PairResult } from "./pairs.ts";
import type { UsedDevice } from "./rankJob.ts";

export interface SetupReport {
  readonly ok: boolean;
  readonly worldSize: number;
  readonly devices: readonly UsedDevice[];
  /** Every ordered pair that was measured. */
  readonly pairs: readonly PairResult[];
  /** Bytes of each all-reduce whose sum was right on all ranks. */
  readonly smokeBytes: readonly number[];
  readonly failure: SetupFailure | null;
}

export interface SetupFailure extends Omit<PairFailure, "isEcho"> {
  /** Who found out; null where a thread died. */
  readonly rank: number | null;
}

/**
 * The failure that counts is the first in the order of the checks; of one check, that of a rank which
 * took part and was not merely told. `died`: what ended a thread that reported nothing.
 */
export function mergePairReports(
  worldSize: number,
  devices: readonly UsedDevice[],
  reports: readonly PairReport[],
  died: string | undefined,
): SetupReport {
  const failures = reports.flatMap(({ rank, failure }) =>
    failure === null ? [] : [{ ...failure, rank }],
  );
  const [first] = failures.sort((a, b) => severity(b) - severity(a));
  const failure = first ?? (died === undefined ? null : { pair: null, message: died, rank: null });
  const pairs = reports.flatMap((report) => report.pairs);
  const smoke = reports.map((report) => report.smoke.map(({ sizeBytes }) => sizeBytes));
  const isEverywhere = (sizeBytes: number): boolean =>
    reports.length === worldSize && smoke.every((sizes) => sizes.includes(sizeBytes));
  return {
    ok: failure === null && reports.length === worldSize,
    worldSize,
    devices: [...devices].sort((a, b) => a.rank - b.rank),
    pairs: pairs.sort((a, b) => a.from - b.from || a.to - b.to),
    smokeBytes: (smoke[0] ?? []).filter(isEverywhere),
    failure:
      failure === null
        ? null
        : { pair: failure.pair, message: failure.message, rank: failure.rank },
  };
}

/** Members of the pair know more than bystanders, and who failed more than who was told of it. */
function severity({ pair, rank, isEcho }: PairFailure & { readonly rank: number }): number {
  const isMember = pair !== null && (pair.from === rank || pair.to === rank);
  return (isEcho ? 0 : 2) + (isMember ? 1 : 0);
}
