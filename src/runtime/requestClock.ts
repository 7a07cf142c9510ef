/** When things happened to one request. */
import type { RequestTimings } from "./request.ts";

export class RequestClock {
  readonly #now: () => number;
  readonly #arrivalMs: number;
  #scheduledMs: number | null = null;
  #firstTokenMs: number | null = null;
  #lastTokenMs: number | null = null;
  #numTokens = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#arrivalMs = now();
  }

  scheduled(): void {
    this.#scheduledMs ??= this.#now();
  }

  /** Milliseconds since the token before, or since the arrival. */
  token(): number {
    const nowMs = this.#now();
    const elapsedMs = nowMs - (this.#lastTokenMs ?? this.#arrivalMs);
    this.#firstTokenMs ??= nowMs;
    this.#lastTokenMs = nowMs;
    this.#numTokens += 1;
    return elapsedMs;
  }

  get timings(): RequestTimings {
    const arrivalMs = this.#arrivalMs;
    const scheduledMs = this.#scheduledMs;
    const [firstTokenMs, lastTokenMs] = [this.#firstTokenMs, this.#lastTokenMs];
    const queueMs = scheduledMs === null ? null : scheduledMs - arrivalMs;
    const ttftMs = firstTokenMs === null ? null : firstTokenMs - arrivalMs;
    const hasSpan = firstTokenMs !== null && lastTokenMs !== null && this.#numTokens > 1;
    const tpotMs = hasSpan ? (lastTokenMs - firstTokenMs) / (this.#numTokens - 1) : null;
    const moments = { arrivalMs, scheduledMs, firstTokenMs, lastTokenMs };
    return { ...moments, queueMs, ttftMs, tpotMs };
  }
}
