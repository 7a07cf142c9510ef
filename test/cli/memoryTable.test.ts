import { expect, test } from "vitest";
import { formatMemory } from "../../src/cli/memoryTable.ts";
import type { RankMemory } from "../../src/runtime/kvBudget.ts";

const MIB = 1 << 20;
const rank: RankMemory = {
  rank: 0,
  deviceName: "Toy GPU",
  weightBytes: 500 * MIB,
  activationBytes: 20 * MIB,
  kvBytes: 250 * MIB,
  kvBlockBytes: MIB,
  maxBlocks: 480,
  limitBytes: 1000 * MIB,
  source: "measured",
};

test("the arithmetic of each rank, as a table and a bar", () => {
  const second = { ...rank, rank: 1, weightBytes: 0, activationBytes: 1000 * MIB };
  const plan = { numBlocks: 250, blockSize: 16, blocksPerSequence: 100, ranks: [rank, second] };
  expect(formatMemory(plan)).toBe(
    [
      "KV cache: 250 blocks x 16 = 4,000 tokens, 2.5 sequences of full length; 65,536 bytes a token on rank 0, within the memory of what was free",
      "rank  weights  + activations  + KV cache  of MiB  tokens that fit  █ weights ▓ activations ▒ KV cache",
      "   0    500.0           20.0       250.0  1000.0            7,680  ████████████▓▒▒▒▒▒▒·····",
      "   1      0.0         1000.0       250.0  1000.0            7,680  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒▒",
    ].join("\n"),
  );
});
