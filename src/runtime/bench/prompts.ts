/** Prompts of pseudo-random ids: nothing in a dense model's speed depends on which. */

/** Each prompt begins with another id than the ones before, or the prefix cache would answer. */
export class Prompts {
  readonly #vocabSize: number;
  #count = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  /** [length] */
  next(length: number): number[] {
    this.#count += 1;
    const first = 7919 * this.#count;
    return Array.from({ length }, (_, i) => (first + 104729 * i) % this.#vocabSize);
  }

  /** [count][length] */
  batch(count: number, length: number): number[][] {
    return Array.from({ length: count }, () => this.next(length));
  }
}

/** Greedy, of exactly `maxTokens` tokens. */
export function greedy(maxTokens: number): {
  readonly temperature: 0;
  readonly maxTokens: number;
  readonly ignoreEos: true;
} {
  return { temperature: 0, maxTokens, ignoreEos: true };
}
