/** Gives sequences their blocks, and finds those that hold a begin of what they are about to compute. */
import { BlockManager } from "./blockManager.ts";
import type { ExecutorLimits } from "./executor/executor.ts";
import type { PrefixMatch } from "./prefixCache.ts";
import type { SchedulerStats } from "./schedulerReports.ts";
import type { Sequence } from "./sequence.ts";

type BlockStats = Pick<
  SchedulerStats,
  | "numUsedBlocks"
  | "numCachedBlocks"
  | "numBlankBlocks"
  | "numPrefixQueryTokens"
  | "numPrefixHitTokens"
>;

/** Without prefix caching, only sequences of one fork share: nothing outlives its last owner. */
export class KvBlocks {
  readonly #blocks: BlockManager;
  readonly #hasPrefixCaching: boolean;
  #numQueryTokens = 0;
  #numHitTokens = 0;

  constructor({ numBlocks, blockSize }: ExecutorLimits, enablePrefixCaching: boolean) {
    this.#blocks = new BlockManager(numBlocks, blockSize, { retainsPrefixes: enablePrefixCaching });
    this.#hasPrefixCaching = enablePrefixCaching;
  }

  get stats(): BlockStats {
    const { numUsed, numCached, numFree } = this.#blocks;
    return {
      numUsedBlocks: numUsed,
      numCachedBlocks: numCached,
      numBlankBlocks: numFree - numCached,
      numPrefixQueryTokens: this.#numQueryTokens,
      numPrefixHitTokens: this.#numHitTokens,
    };
  }

  /** What the cache holds of the sequence's tokens. */
  match(sequence: Sequence): PrefixMatch {
    const { request, leader } = sequence;
    const mayShare = this.#hasPrefixCaching || leader !== null;
    // Cached tokens are not run, so they have no logits.
    const hasAll = mayShare && request.sampling.promptLogprobs === null;
    return this.#blocks.match(hasAll ? sequence.cacheableKeys(this.#blocks.blockSize) : []);
  }

  numTokensOf({ blocks }: PrefixMatch): number {
    return blocks.length * this.#blocks.blockSize;
  }

  /** Its tokens so far fit, and numSpare blocks more. */
  admits({ tokenIds }: Sequence, match: PrefixMatch, numSpare: number): boolean {
    const numNeeded = this.#blocks.numFreeNeeded(tokenIds.length, match) + numSpare;
    return numNeeded <= this.#blocks.numFree;
  }

  /** Blocks for all its tokens so far; `admits` said yes. */
  give(sequence: Sequence, match: PrefixMatch): void {
    if (sequence.numCachedTokens === null && this.#hasPrefixCaching) {
      this.#numQueryTokens += sequence.tokenIds.length;
      this.#numHitTokens += this.numTokensOf(match);
    }
    this.#blocks.adopt(sequence.blockTable, match);
    this.#blocks.grow(sequence.blockTable, sequence.tokenIds.length);
    sequence.prefix = match.node;
    sequence.numRegistered = match.blocks.length;
  }

  /** Room for one token more. */
  grow({ blockTable, numComputed }: Sequence): boolean {
    return this.#blocks.grow(blockTable, numComputed + 1);
  }

  /** Each of the sequences can have room for so many tokens more. */
  canGrowAll(sequences: readonly Sequence[], numTokens: number): boolean {
    const missing = sequences.map(({ blockTable, numComputed }) =>
      Math.max(0, this.#blocks.numBlocksFor(numComputed + numTokens) - blockTable.length),
    );
    return missing.reduce((sum, count) => sum + count, 0) <= this.#blocks.numFree;
  }

  /** Makes its full blocks findable, as far as their tokens are known and planned. */
  register(sequence: Sequence): void {
    const { blockTable, tokenIds, numComputed } = sequence;
    const { blockSize } = this.#blocks;
    const numFull = Math.floor(Math.min(numComputed, tokenIds.length) / blockSize);
    const numBlocks = Math.min(numFull, blockTable.length);
    while (sequence.prefix !== null && sequence.numRegistered < numBlocks) {
      const index = sequence.numRegistered++;
      const key = sequence.blockKey(index, blockSize);
      sequence.prefix = this.#blocks.register(sequence.prefix, key, blockTable[index] ?? -1);
    }
  }

  release(sequence: Sequence): void {
    this.#blocks.release(sequence.blockTable);
    sequence.prefix = null;
    sequence.numRegistered = 0;
  }

  dropCached(): void {
    this.#blocks.dropCached();
  }
}
