/** Remembers which prompts a replica saw, so that one with the same beginning finds its KV blocks there. */

/** Tokens a remembered piece of a prompt has: a KV block's, below which nothing can be shared. */
const PIECE_TOKENS = 16;
/** Pieces remembered a replica: a million tokens. */
const MAX_PIECES = 65_536;

/** Hashes of the prompt's whole pieces, each over everything before it too. */
export function prefixHashes(tokenIds: readonly number[]): number[] {
  const hashes: number[] = [];
  let [low, high] = [0x811c9dc5, 0x2545f491]; // FNV-1a with two seeds: 53 bits are kept
  for (const [index, tokenId] of tokenIds.entries()) {
    low = Math.imul(low ^ tokenId, 0x01000193);
    high = Math.imul(high ^ tokenId, 0x85ebca6b) ^ (high >>> 13);
    if ((index + 1) % PIECE_TOKENS === 0) hashes.push((low >>> 0) + (high & 0x1fffff) * 2 ** 32);
  }
  return hashes;
}

/** One replica's memory; the pieces used longest ago are forgotten first. */
export class PrefixMemory {
  readonly #pieces = new Set<number>(); // a Set keeps the order of insertion
  readonly #maxPieces: number;

  constructor(maxPieces = MAX_PIECES) {
    this.#maxPieces = maxPieces;
  }

  /** How much of the prompt was seen, 0 to 1. */
  seen(hashes: readonly number[]): number {
    const end = hashes.findIndex((hash) => !this.#pieces.has(hash));
    if (hashes.length === 0) return 0;
    return (end < 0 ? hashes.length : end) / hashes.length;
  }

  add(hashes: readonly number[]): void {
    for (const hash of hashes) {
      this.#pieces.delete(hash);
      this.#pieces.add(hash);
    }
    for (const oldest of this.#pieces) {
      if (this.#pieces.size <= this.#maxPieces) return;
      this.#pieces.delete(oldest);
    }
  }

  clear(): void {
    this.#pieces.clear();
  }
}
