import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockManager } from "../../src/runtime/blockManager.ts";
import type { PrefixNode } from "../../src/runtime/prefixCache.ts";
import { at } from "../support/simulatedModel.ts";

// A table as a sequence has it: `text` is what its full blocks hold, one letter a block.
interface Table {
  blocks: number[];
  text: string;
  node: PrefixNode;
  numRegistered: number;
}

type Action =
  | { readonly kind: "open"; readonly text: string }
  | { readonly kind: "grow"; readonly table: number; readonly numTokens: number }
  | { readonly kind: "register"; readonly table: number }
  | { readonly kind: "release"; readonly table: number };

const text = fc
  .array(fc.constantFrom("a", "b"), { maxLength: 6, size: "max" })
  .map((parts) => parts.join(""));
const index = fc.nat(9);
const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("open" as const), text }),
    fc.record({ kind: fc.constant("grow" as const), table: index, numTokens: fc.nat(20) }),
    fc.record({ kind: fc.constant("register" as const), table: index }),
    fc.record({ kind: fc.constant("release" as const), table: index }),
  ),
  { maxLength: 80, size: "max" },
);

class Tables {
  readonly blocks: BlockManager;
  readonly tables: Table[] = [];
  readonly contents: string[]; // by block: the whole prefix that it was last registered under
  numHits = 0;

  constructor(blocks: BlockManager) {
    this.blocks = blocks;
    this.contents = Array.from({ length: blocks.numBlocks }, () => "");
  }

  open(wanted: string): void {
    const match = this.blocks.match(wanted);
    const numNeeded = this.blocks.numFreeNeeded(wanted.length * this.blocks.blockSize, match);
    expect(match.blocks.map((block) => this.contents[block])).toEqual(
      match.blocks.map((_, i) => wanted.slice(0, i + 1)),
    );
    if (numNeeded > this.blocks.numFree) return;
    this.numHits += match.blocks.length;
    const table: number[] = [];
    this.blocks.adopt(table, match);
    expect(this.blocks.grow(table, wanted.length * this.blocks.blockSize)).toBe(true);
    const numRegistered = match.blocks.length;
    this.tables.push({ blocks: table, text: wanted, node: match.node, numRegistered });
  }

  register(table: Table | undefined): void {
    while (table !== undefined && table.numRegistered < table.text.length) {
      const i = table.numRegistered++;
      const block = at(table.blocks, i);
      table.node = this.blocks.register(table.node, table.text.charAt(i), block);
      this.contents[block] = table.text.slice(0, i + 1);
    }
  }

  pick(index: number): Table | undefined {
    return this.tables[index % Math.max(1, this.tables.length)];
  }

  release(table: Table | undefined): void {
    if (table === undefined) return;
    this.blocks.release(table.blocks);
    this.tables.splice(this.tables.indexOf(table), 1);
  }

  expectConsistent(): void {
    const { blocks } = this;
    const owners = new Map<number, number>();
    for (const block of this.tables.flatMap((table) => table.blocks)) {
      owners.set(block, (owners.get(block) ?? 0) + 1);
    }
    for (let block = 0; block < blocks.numBlocks; block++) {
      expect(blocks.refCount(block)).toBe(owners.get(block) ?? 0);
    }
    expect(blocks.numUsed).toBe(owners.size);
    expect(blocks.numUsed + blocks.numFree).toBe(blocks.numBlocks);
    expect(blocks.numCached).toBeLessThanOrEqual(blocks.numFree);
  }
}

test("used and free are all blocks, owners are as the tables say, and a hit holds what was asked for", () => {
  let [numHits, numCached] = [0, 0];
  const sizes = fc.tuple(fc.integer({ min: 1, max: 24 }), fc.constantFrom(1, 4, 16), fc.boolean());
  const holds = fc.property(sizes, actions, (size, script) => {
    const [numBlocks, blockSize, retainsPrefixes] = size;
    const blocks = new BlockManager(numBlocks, blockSize, { retainsPrefixes });
    const all = new Tables(blocks);
    for (const action of script) {
      if (action.kind === "open") all.open(action.text);
      else if (action.kind === "register") all.register(all.pick(action.table));
      else if (action.kind === "release") all.release(all.pick(action.table));
      else {
        const table = all.pick(action.table)?.blocks;
        if (table === undefined) continue;
        const [before, numFree] = [[...table], blocks.numFree];
        const missing = Math.max(0, blocks.numBlocksFor(action.numTokens) - before.length);
        expect(blocks.grow(table, action.numTokens)).toBe(missing <= numFree);
        expect(table.slice(0, before.length)).toEqual(before);
        expect(table.length - before.length).toBe(missing <= numFree ? missing : 0);
        expect(new Set(table).size).toBe(table.length);
      }
      all.expectConsistent();
    }
    numCached += blocks.numCached;
    for (const table of [...all.tables]) all.release(table);
    expect(blocks.numFree).toBe(numBlocks);
    if (!retainsPrefixes) expect(blocks.numCached).toBe(0);
    blocks.dropCached();
    expect([blocks.numCached, blocks.match("ab").blocks]).toEqual([0, []]);
    numHits += all.numHits;
  });
  fc.assert(holds, { numRuns: 300 });
  expect(numHits).toBeGreaterThan(50);
  expect(numCached).toBeGreaterThan(50);
});

function filled(blocks: BlockManager, keys: string): number[] {
  const match = blocks.match(keys);
  const table: number[] = [];
  blocks.adopt(table, match);
  blocks.grow(table, keys.length * blocks.blockSize);
  let { node } = match;
  for (let i = match.blocks.length; i < keys.length; i++) {
    node = blocks.register(node, keys.charAt(i), at(table, i));
  }
  return table;
}

test("the prefix released first is evicted first, from its end; a hit makes it new again", () => {
  const blocks = new BlockManager(5, 4);
  const first = filled(blocks, "ab");
  const second = filled(blocks, "cd");
  blocks.release(first);
  blocks.release(second);
  expect([blocks.numUsed, blocks.numCached]).toEqual([0, 4]);
  blocks.release(filled(blocks, "ab")); // asked for again: now "cd" is the oldest
  const taken: number[] = [];
  const left = (): number[] => ["ab", "cd"].map((keys) => blocks.match(keys).blocks.length);
  blocks.grow(taken, 4); // the blank one
  expect(left()).toEqual([2, 2]);
  blocks.grow(taken, 8);
  expect(left()).toEqual([2, 1]);
  blocks.grow(taken, 16);
  expect(left()).toEqual([1, 0]);
});

test("a shared block lives until its last owner lets go", () => {
  const blocks = new BlockManager(4, 16, { retainsPrefixes: false });
  const first = filled(blocks, "abc");
  const second = filled(blocks, "ab");
  expect(second).toEqual(first.slice(0, 2));
  blocks.release(first);
  expect([first, blocks.numUsed, blocks.numCached]).toEqual([[], 2, 0]);
  expect(blocks.match("abc").blocks).toEqual(second);
  blocks.release(second);
  expect([blocks.numUsed, blocks.match("abc").blocks]).toEqual([0, []]);
});

test("of two that computed the same, the first is found; the other's block is blank again", () => {
  const blocks = new BlockManager(4, 4);
  const [first, second]: [number[], number[]] = [[], []];
  blocks.grow(first, 4);
  blocks.grow(second, 4);
  blocks.register(blocks.rootPrefix, "a", at(first, 0));
  blocks.register(blocks.rootPrefix, "a", at(second, 0));
  expect(blocks.match("a").blocks).toEqual(first);
  blocks.release(second);
  expect(blocks.numCached).toBe(0);
  blocks.release(first);
  expect(blocks.numCached).toBe(1);
});

test("a table that no longer owns its blocks is refused", () => {
  const blocks = new BlockManager(2, 16);
  const table: number[] = [];
  blocks.grow(table, 1);
  const copy = [...table];
  blocks.release(table);
  expect(() => { blocks.release(copy); }).toThrow("block 0: expected an owner, got a free block"); // prettier-ignore
});
