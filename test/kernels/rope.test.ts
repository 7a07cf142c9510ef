import { expect, test } from "vitest";
import { inverseFrequencies, ropeTable, type RopeParameters } from "../../src/kernels/rope.ts";

const theta = 10_000;
const llama3: RopeParameters = {
  type: "llama3",
  theta: 500_000,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 64,
};

test("default frequencies are powers of theta", () => {
  expect([...inverseFrequencies({ type: "default", theta }, 8)]).toEqual([
    1,
    theta ** -0.25,
    theta ** -0.5,
    theta ** -0.75,
  ]);
});

test("linear scaling divides every frequency by its factor", () => {
  const plain = inverseFrequencies({ type: "default", theta }, 64);
  const scaled = inverseFrequencies({ type: "linear", theta, factor: 4 }, 64);
  expect([...scaled]).toEqual([...plain].map((frequency) => frequency / 4));
});

// transformers 4.57: ROPE_INIT_FUNCTIONS["llama3"], where 64 * f / 2 pi falls above 4, between and below 1
test("llama3 keeps short waves, blends middle ones and divides long ones", () => {
  const frequencies = inverseFrequencies(llama3, 8);
  const plain = inverseFrequencies({ type: "default", theta: llama3.theta }, 8);
  expect(frequencies[0]).toBe(1); // 10.2 turns
  for (const i of [1, 2, 3]) expect(frequencies[i]).toBeCloseTo((plain[i] ?? 0) / 8, 15); // < 1 turn

  const middle = inverseFrequencies(llama3, 64)[4] ?? 0;
  const f = 500_000 ** (-8 / 64);
  const smooth = (64 / ((2 * Math.PI) / f) - 1) / 3;
  expect(smooth).toBeGreaterThan(0);
  expect(smooth).toBeLessThan(1);
  expect(middle).toBeCloseTo(((1 - smooth) * f) / 8 + smooth * f, 15);
});

test("a row of the table holds the cosines, then the sines", () => {
  const table = ropeTable({ type: "default", theta }, 8, 5);
  expect(table.length).toBe(40);
  const [row, angle] = [3 * 8, 3 * theta ** -0.25];
  expect(table[row + 1]).toBe(Math.fround(Math.cos(angle)));
  expect(table[row + 4 + 1]).toBe(Math.fround(Math.sin(angle)));
  expect([...table.subarray(0, 8)]).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
});

test("the last of 131,072 positions is as exact as the first", () => {
  const table = ropeTable(llama3, 64, 131_072);
  const last = 131_071 * 64;
  expect(table[last]).toBe(Math.fround(Math.cos(131_071)));
});
