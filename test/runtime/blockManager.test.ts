import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockManager } from "../../src/runtime/blockManager.ts";

type Action =
  | { readonly kind: "grow"; readonly table: number; readonly numTokens: number }
  | { readonly kind: "share"; readonly table: number; readonly numTokens: number }
  | { readonly kind: "release"; readonly table: number };

const index = fc.nat(9);
const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("grow" as const), table: index, numTokens: fc.nat(100) }),
    fc.record({ kind: fc.constant("share" as const), table: index, numTokens: fc.nat(100) }),
    fc.record({ kind: fc.constant("release" as const), table: index }),
  ),
  { maxLength: 60 },
);

function expectConsistent(blocks: BlockManager, tables: readonly number[][]): void {
  const owners = new Map<number, number>();
  for (const block of tables.flat()) owners.set(block, (owners.get(block) ?? 0) + 1);
  for (let block = 0; block < blocks.numBlocks; block++) {
    expect(blocks.refCount(block)).toBe(owners.get(block) ?? 0);
  }
  expect(blocks.numUsed).toBe(owners.size);
  expect(blocks.numUsed + blocks.numFree).toBe(blocks.numBlocks);
}

test("used and free are all blocks, and owners are as many as the tables say", () => {
  const holds = fc.property(
    fc.integer({ min: 1, max: 24 }),
    fc.constantFrom(1, 4, 16),
    actions,
    (numBlocks, blockSize, script) => {
      const blocks = new BlockManager(numBlocks, blockSize);
      const tables = Array.from({ length: 10 }, (): number[] => []);
      for (const action of script) {
        const table = tables[action.table] ?? [];
        if (action.kind === "release") blocks.release(table);
        else if (action.kind === "share") tables.push(blocks.share(table, action.numTokens));
        else {
          const [before, numFree] = [[...table], blocks.numFree];
          const missing = Math.max(0, blocks.numBlocksFor(action.numTokens) - before.length);
          expect(blocks.grow(table, action.numTokens)).toBe(missing <= numFree);
          expect(table.slice(0, before.length)).toEqual(before);
          expect(table.length - before.length).toBe(missing <= numFree ? missing : 0);
          expect(new Set(table).size).toBe(table.length);
        }
        expectConsistent(blocks, tables);
      }
      for (const table of tables) blocks.release(table);
      expect(blocks.numFree).toBe(numBlocks);
    },
  );
  fc.assert(holds, { numRuns: 200 });
});

test("only full blocks are shared, and they live until their last owner lets go", () => {
  const blocks = new BlockManager(4, 16);
  const first: number[] = [];
  blocks.grow(first, 40);
  expect(first).toEqual([0, 1, 2]);
  const second = blocks.share(first, 40);
  expect(second).toEqual([0, 1]);
  blocks.release(first);
  expect([first, blocks.numUsed]).toEqual([[], 2]);
  blocks.release(second);
  expect(blocks.numUsed).toBe(0);
});

test("a table that no longer owns its blocks is refused", () => {
  const blocks = new BlockManager(2, 16);
  const table: number[] = [];
  blocks.grow(table, 1);
  const copy = [...table];
  blocks.release(table);
  expect(() => { blocks.release(copy); }).toThrow("block 0: expected an owner, got a free block"); // prettier-ignore
});
