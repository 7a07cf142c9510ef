/** A flight recorder whose operations also go into a trace: what travels between ranks, and for how long. */
import { type FlightEntry, FlightRecorder } from "../../collectives/watchdog/flightRecorder.ts";
import type { Tracer } from "../../common/trace.ts";
import { trackOf } from "./tracks.ts";

export class TracedRecorder extends FlightRecorder {
  readonly #tracer: Tracer;

  constructor(rank: number, tracer: Tracer) {
    super(rank);
    this.#tracer = tracer;
  }

  override end(entry: FlightEntry, error?: string): void {
    super.end(entry, error);
    const { group, name, algorithm, sequence, bytes, startMs } = entry;
    const args = { group, sequence, bytes, ...(error === undefined ? {} : { error }) };
    const begin = startMs - performance.timeOrigin;
    this.#tracer.span(trackOf(group), `${name} ${algorithm}`, begin, { args });
  }
}
