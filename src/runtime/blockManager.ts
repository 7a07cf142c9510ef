/** Owns the KV cache's blocks: which are free, and how many sequences hold each of the others. */
import { TandemError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";

/** Hands out blocks of `blockSize` tokens. A block table is an array of block ids, owned by its sequence. */
export class BlockManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly #free: number[]; // a stack: the block freed last is the likeliest to be in a cache
  readonly #refCounts: Uint32Array; // [numBlocks]; 0 = free

  constructor(numBlocks: number, blockSize: number) {
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    this.#free = Array.from({ length: numBlocks }, (_, index) => numBlocks - 1 - index);
    this.#refCounts = new Uint32Array(numBlocks);
  }

  get numFree(): number {
    return this.#free.length;
  }

  get numUsed(): number {
    return this.numBlocks - this.#free.length;
  }

  /** Sequences that hold this block. */
  refCount(block: number): number {
    return this.#refCounts[block] ?? 0;
  }

  /** Blocks that hold numTokens tokens. */
  numBlocksFor(numTokens: number): number {
    return ceilDiv(numTokens, this.blockSize);
  }

  /**
   * Appends blocks until the table holds numTokens tokens: a whole prompt, or one token more. False, and
   * nothing changed, if too few are free.
   */
  grow(blockTable: number[], numTokens: number): boolean {
    const missing = this.numBlocksFor(numTokens) - blockTable.length;
    if (missing <= 0) return true;
    if (missing > this.#free.length) return false;
    for (const block of this.#free.splice(-missing).reverse()) {
      this.#refCounts[block] = 1;
      blockTable.push(block);
    }
    return true;
  }

  /**
   * A second table over the full blocks of the first numTokens tokens. Full blocks are never written
   * again, so sharing needs no copy; the new owner grows its own last block.
   */
  share(blockTable: readonly number[], numTokens: number): number[] {
    const shared = blockTable.slice(0, Math.floor(numTokens / this.blockSize));
    for (const block of shared) this.#refCounts[block] = this.#held(block) + 1;
    return shared;
  }

  /** Gives the table's blocks back and empties it; a block is free once its last owner gave it back. */
  release(blockTable: number[]): void {
    for (const block of blockTable.reverse()) {
      const left = this.#held(block) - 1;
      this.#refCounts[block] = left;
      if (left === 0) this.#free.push(block);
    }
    blockTable.length = 0;
  }

  #held(block: number): number {
    const count = this.refCount(block);
    if (count === 0) throw new TandemError(`block ${block}: expected an owner, got a free block`);
    return count;
  }
}
