/** Follows one replay of a CommandList: what it does and when, and when it may submit. */

/** Told of something that began at `beginMs` (performance.now()) and has just ended. */
export type OnSpan = (track: ReplayTrack, name: string, beginMs: number) => void;

/** The host's own work; host operations that the replay waits for, with their stages; detached ones. */
export type ReplayTrack = "host" | "operations" | "readback";

/** Given to `CommandList.replay`; each part may be left out. */
export interface ReplayWatch {
  /** Called before segment `index` is submitted, which waits for the promise, if there is one. */
  readonly beforeSubmit?: (index: number) => Promise<void> | undefined;
  readonly submitted?: (index: number) => void;
  readonly onSpan?: OnSpan | undefined;
}
