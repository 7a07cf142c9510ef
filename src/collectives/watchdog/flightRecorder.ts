/** The last operations of a rank, for the report after a failure, and totals for the statistics. */
import type { Algorithm, OperationName } from "../signature.ts";

export interface FlightEntry {
  readonly group: string;
  readonly name: OperationName;
  readonly algorithm: Algorithm;
  readonly sequence: number;
  readonly bytes: number;
  /** Milliseconds since the epoch, so that ranks can be compared. */
  readonly startMs: number;
  /** Absent while it runs. */
  endMs?: number;
  error?: string;
}

export interface OperationTotals {
  readonly count: number;
  readonly bytes: number;
  /** Time between call and completion, waiting for other ranks included. */
  readonly elapsedMs: number;
}

/** Plain data: `JSON.stringify` it. */
export interface FlightDump {
  readonly rank: number;
  readonly entries: readonly FlightEntry[];
  readonly totals: Readonly<Record<string, OperationTotals>>;
}

export class FlightRecorder {
  readonly #rank: number;
  readonly #capacity: number;
  readonly #entries: FlightEntry[] = [];
  #next = 0;
  readonly #totals = new Map<OperationName, OperationTotals>();
  readonly #onFailure: ((reason: string) => void)[] = [];

  constructor(rank: number, capacity = 1000) {
    this.#rank = rank;
    this.#capacity = capacity;
  }

  begin(operation: Omit<FlightEntry, "startMs" | "endMs" | "error">): FlightEntry {
    const entry: FlightEntry = {
      ...operation,
      startMs: performance.timeOrigin + performance.now(),
    };
    this.#entries[this.#next] = entry;
    this.#next = (this.#next + 1) % this.#capacity;
    return entry;
  }

  end(entry: FlightEntry, error?: string): void {
    entry.endMs = performance.timeOrigin + performance.now();
    if (error !== undefined) entry.error = error;
    const { count, bytes, elapsedMs } = this.totals(entry.name);
    this.#totals.set(entry.name, {
      count: count + 1,
      bytes: bytes + entry.bytes,
      elapsedMs: elapsedMs + entry.endMs - entry.startMs,
    });
    if (error !== undefined) for (const listener of this.#onFailure) listener(error);
  }

  get rank(): number {
    return this.#rank;
  }

  /** Calls `listener` with the error of each operation that fails. */
  onFailure(listener: (reason: string) => void): void {
    this.#onFailure.push(listener);
  }

  /** Totals of one operation, or of all, since the start or the last reset. */
  totals(name?: OperationName): OperationTotals {
    const all = [...this.#totals].filter(([other]) => name === undefined || other === name);
    return all.reduce(
      (sum, [, { count, bytes, elapsedMs }]) => ({
        count: sum.count + count,
        bytes: sum.bytes + bytes,
        elapsedMs: sum.elapsedMs + elapsedMs,
      }),
      { count: 0, bytes: 0, elapsedMs: 0 },
    );
  }

  resetTotals(): void {
    this.#totals.clear();
  }

  /** Oldest first. */
  dump(): FlightDump {
    const oldestFirst = [...this.#entries.slice(this.#next), ...this.#entries.slice(0, this.#next)];
    const entries = oldestFirst.map((entry) => ({ ...entry }));
    return { rank: this.#rank, entries, totals: Object.fromEntries(this.#totals) };
  }
}
