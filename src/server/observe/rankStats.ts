/** A replica's counters by rank, from workers that may be busy, or dead. */
import { within } from "../../common/within.ts";
import type { RankStats } from "../../runtime/stats.ts";
import type { Replica } from "../replicas/replica.ts";

/** A worker answers between two steps; who has not by then is left out this time. */
const PATIENCE_MS = 1000;

/** Empty where the replica is not ready or does not answer. */
export async function rankStats({ state, model }: Replica): Promise<readonly RankStats[]> {
  if (state !== "ready") return [];
  const answer = model.stats().then(({ ranks }) => ranks);
  const inTime = await within(
    PATIENCE_MS,
    answer.catch(() => []),
  );
  return inTime ?? [];
}
