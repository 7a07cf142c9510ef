/** Finds stop strings in text that comes in pieces, and lets through only what can be no part of one. */

/** What became certain with a piece of text. */
export interface StopSearch {
  readonly text: string;
  /** The stop string that ended the text; null while none has. */
  readonly stopString: string | null;
}

/**
 * The string that is complete first ends the text; of several that end at the same letter, the one that
 * began first. So the outcome does not depend on how tokens cut the text.
 */
export class StopStringMatcher {
  readonly #stops: readonly string[];
  readonly #includesStop: boolean;
  #held = "";

  constructor(stops: readonly string[], includesStop = false) {
    this.#stops = stops;
    this.#includesStop = includesStop;
  }

  /** Adds text. Unless `mayStop`, a string that this text completes is let through. */
  push(piece: string, mayStop = true): StopSearch {
    if (this.#stops.length === 0) return { text: piece, stopString: null };
    const text = this.#held + piece;
    const found = mayStop ? this.#find(text) : null;
    if (found !== null) {
      this.#held = "";
      const end = this.#includesStop ? found.end : found.begin;
      return { text: text.slice(0, end), stopString: found.stop };
    }
    const numHeld = Math.max(...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - numHeld);
    return { text: text.slice(0, text.length - numHeld), stopString: null };
  }

  /** No text follows; returns what was held back. */
  end(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  #find(text: string): { begin: number; end: number; stop: string } | null {
    const found = this.#stops
      .map((stop) => ({ begin: text.indexOf(stop), stop }))
      .filter(({ begin }) => begin >= 0)
      .map(({ begin, stop }) => ({ begin, stop, end: begin + stop.length }))
      .sort((a, b) => a.end - b.end || a.begin - b.begin);
    return found[0] ?? null;
  }
}

// Length of the longest end of `text` that is a begin of `stop`, less than all of it.
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
