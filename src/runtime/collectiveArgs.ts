/** What a user chooses about collectives; the same for every rank. */
import { type Algorithm } from "../collectives/signature.ts";
import { ALGORITHM_CHOICES } from "../collectives/tuning.ts";
import { WIRE_FORMATS, type WireFormat } from "../collectives/wire.ts";

export interface CollectiveArgs {
  /** Of all-reduces; `auto` asks the measured table. */
  readonly algorithm: Algorithm | "auto";
  /** How sums travel between ranks; narrower than f32 rounds each value that is sent. */
  readonly wire: WireFormat;
  /** Sums of fewer bytes travel as f32. */
  readonly wireFromBytes: number;
}

export const DEFAULT_COLLECTIVE_ARGS: CollectiveArgs = {
  algorithm: "auto",
  wire: "f32",
  wireFromBytes: 0,
};

/** What --collective-algorithm and --collective-wire-dtype take. */
export const COLLECTIVE_ALGORITHMS: readonly (Algorithm | "auto")[] = ALGORITHM_CHOICES;
export const COLLECTIVE_WIRES: readonly WireFormat[] = WIRE_FORMATS;
