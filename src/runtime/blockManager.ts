/**
 * Owns the KV cache's blocks: how many sequences hold each, which are blank, and which hold a prefix that
 * nobody uses now but somebody may ask for again.
 */
import { TandemError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { PrefixCache, type PrefixMatch, type PrefixNode } from "./prefixCache.ts";

/** Settings that have a default. */
export interface BlockManagerOptions {
  /** Keep prefixes after their last owner let go, until the room is needed; true when left out. */
  readonly retainsPrefixes?: boolean;
}

/** Hands out blocks of `blockSize` tokens. A block table is an array of block ids, owned by its sequence. */
export class BlockManager {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly #retainsPrefixes: boolean;
  readonly #prefixes = new PrefixCache();
  readonly #blank: number[]; // a stack: the block freed last is the likeliest to be in a cache
  readonly #cached = new Set<number>(); // no owner, but a known prefix; least recently released first
  readonly #refCounts: Uint32Array; // [numBlocks]

  constructor(numBlocks: number, blockSize: number, options: BlockManagerOptions = {}) {
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    this.#retainsPrefixes = options.retainsPrefixes ?? true;
    this.#blank = Array.from({ length: numBlocks }, (_, index) => numBlocks - 1 - index);
    this.#refCounts = new Uint32Array(numBlocks);
  }

  /** Blocks that can be handed out: blank ones, and cached ones, which then forget their prefix. */
  get numFree(): number {
    return this.#blank.length + this.#cached.size;
  }

  /** Blocks without an owner that hold a prefix; part of `numFree`. */
  get numCached(): number {
    return this.#cached.size;
  }

  get numUsed(): number {
    return this.numBlocks - this.numFree;
  }

  /** The empty prefix. */
  get rootPrefix(): PrefixNode {
    return this.#prefixes.root;
  }

  /** Sequences that hold this block. */
  refCount(block: number): number {
    return this.#refCounts[block] ?? 0;
  }

  /** Blocks that hold numTokens tokens. */
  numBlocksFor(numTokens: number): number {
    return ceilDiv(numTokens, this.blockSize);
  }

  /** Free blocks that a new table of numTokens tokens takes if it begins with a match. */
  numFreeNeeded(numTokens: number, { blocks }: PrefixMatch): number {
    const numOwned = blocks.filter((block) => this.refCount(block) > 0).length;
    return this.numBlocksFor(numTokens) - numOwned;
  }

  /** The longest known prefix of the given block keys. It holds until the next `grow`. */
  match(keys: Iterable<string>): PrefixMatch {
    return this.#prefixes.match(keys);
  }

  /** Makes a match the begin of an empty table. Full blocks are never written again, so none is copied. */
  adopt(blockTable: number[], { blocks }: PrefixMatch): void {
    for (const block of blocks) {
      this.#refCounts[block] = this.refCount(block) + 1;
      this.#cached.delete(block);
      blockTable.push(block);
    }
  }

  /**
   * Appends blocks until the table holds numTokens tokens: a whole prompt, or one token more. False, and
   * nothing changed, if too few are free.
   */
  grow(blockTable: number[], numTokens: number): boolean {
    const missing = this.numBlocksFor(numTokens) - blockTable.length;
    if (missing > this.numFree) return false;
    for (let i = 0; i < missing; i++) blockTable.push(this.#take());
    return true;
  }

  /** Makes a full block of a table findable: it holds `key` after `parent`'s tokens. */
  register(parent: PrefixNode, key: string, block: number): PrefixNode {
    this.#held(block);
    return this.#prefixes.register(parent, key, block);
  }

  /** Gives the table's blocks back and empties it; a block is free once its last owner gave it back. */
  release(blockTable: number[]): void {
    // From the end: of a prefix that nobody uses, the longest part is the first to go.
    for (const block of blockTable.reverse()) {
      const left = this.#held(block) - 1;
      this.#refCounts[block] = left;
      if (left === 0) this.#free(block);
    }
    blockTable.length = 0;
  }

  /** Forgets every prefix that nobody uses: the cache was written to behind this class's back. */
  dropCached(): void {
    for (const block of this.#cached) {
      this.#prefixes.forget(block);
      this.#blank.push(block);
    }
    this.#cached.clear();
  }

  #take(): number {
    const block = this.#blank.pop() ?? this.#evict();
    this.#refCounts[block] = 1;
    return block;
  }

  #evict(): number {
    const [oldest] = this.#cached;
    if (oldest === undefined) throw new TandemError("blocks: expected a free one, got none");
    this.#cached.delete(oldest);
    this.#prefixes.forget(oldest);
    return oldest;
  }

  #free(block: number): void {
    if (this.#retainsPrefixes && this.#prefixes.has(block)) {
      this.#cached.add(block);
      return;
    }
    this.#prefixes.forget(block);
    this.#blank.push(block);
  }

  #held(block: number): number {
    const count = this.refCount(block);
    if (count === 0) throw new TandemError(`block ${block}: expected an owner, got a free block`);
    return count;
  }
}
