/** What a communicator can be told. Every rank of a group must be told the same. */
import type { DebugLog } from "./debugLog.ts";
import type { Algorithm } from "./signature.ts";
import type { FlightRecorder } from "./watchdog/flightRecorder.ts";
import type { WireFormat } from "./wire.ts";

export interface CommunicatorOptions {
  /** Deadline of one operation. */
  readonly timeoutMs?: number;
  /** Shared by the groups of a rank. */
  readonly recorder?: FlightRecorder;
  /** `--collective-algorithm`; operations that do not have it use the table. */
  readonly algorithm?: Algorithm | "auto";
  /** How sums travel; q8 is for prefill. */
  readonly wire?: WireFormat;
  /** Sums of fewer bytes travel as f32: a decode step has little to save and more to lose. */
  readonly wireFromBytes?: number;
  /** A CRC-32 with every message, so that a damaged one is an error and not a wrong number. */
  readonly checksums?: boolean;
  /** Where TANDEM_DEBUG's lines go; by default as the environment says. */
  readonly debug?: DebugLog;
}

/** For one call. */
export interface ReduceOptions {
  readonly algorithm?: Algorithm | "auto";
  readonly wire?: WireFormat;
  /** Bytes a message of the pipelined algorithms has at most. */
  readonly segmentBytes?: number;
  /** Called as soon as an element range of x is final, while others still travel. */
  readonly onFinal?: (begin: number, end: number) => void;
}

export interface ReduceScatterOptions extends Omit<ReduceOptions, "onFinal"> {
  /** Chunks begin at multiples of so many elements, e.g. of a row. */
  readonly unit?: number;
}
