/** The rows of a rank in a trace. */
import type { ReplayTrack } from "../../device/replayWatch.ts";

/** In the order of a viewer, from the whole to its parts. */
export const TRACKS = ["load", "steps", "host", "operations", "readback", "GPU"] as const;
export type Track = (typeof TRACKS)[number];

/** Micro-batches that run at once have rows of their own: "operations 1". */
export function trackName(track: Track | ReplayTrack, microBatch: number): string {
  return microBatch === 0 ? track : `${track} ${microBatch}`;
}

/** Where a collective of a group is drawn: below the host operation that runs it. */
export function trackOf(group: string): string {
  if (group === "world") return "readback"; // sampled tokens on their way
  return trackName("operations", Number(group.split("/")[1] ?? 0));
}

/** Position of a track among all, lanes of one track next to each other. */
export function trackOrder(track: string): number {
  const [name = "", microBatch = "0"] = track.split(" ");
  const at = TRACKS.findIndex((known) => known === name);
  return (at < 0 ? TRACKS.length : at) + Number(microBatch) / 16;
}
