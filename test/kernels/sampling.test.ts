import { expect, test } from "vitest";
import {
  CANDIDATE_WORDS,
  MAX_CANDIDATES,
  NO_TOKEN,
} from "../../src/kernels/sampling/candidateLayout.ts";
import { needsFullRow } from "../../src/kernels/sampling/needsFullRow.ts";
import { packSamplingRow, SAMPLING_ROW_WORDS } from "../../src/kernels/sampling/samplingRow.ts";
import {
  chunksOf,
  type SamplingUse,
  samplingWorkgroupSize,
} from "../../src/kernels/sampling/samplingVariant.ts";
import type { AdapterInfo } from "../../src/device/device.ts";
import { philox } from "../oracles/sampling.ts";
import { packRows, rowOf } from "./samplingBatch.ts";

const bits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;

test("the oracle's Philox gives Random123's known answers", () => {
  const ones = 0xffffffff;
  const cases: [number[], number[], number[]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [ones, ones, ones, ones],
      [ones, ones],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [counter, key, words] of cases) expect(philox(counter, key)).toEqual(words);
});

test("a row has its fields where the shader reads them", () => {
  const rows = new Uint32Array(2 * SAMPLING_ROW_WORDS);
  const row = {
    slot: 7,
    seed: 0xffffffff,
    position: 9,
    temperature: 0.5,
    topK: 70,
    topP: 0.9,
    minP: 0.1,
  };
  const penalties = { repetitionPenalty: 1.1, presencePenalty: -1, frequencyPenalty: 2 };
  packSamplingRow(rows, 1, rowOf({ ...row, ...penalties, hasPenalties: true }));
  const floats = [0.9, 0.1, 1.1, -1, 2].map(bits);
  expect([...rows.subarray(12)]).toEqual([
    7,
    0xffffffff,
    9,
    2 + 4 + 8,
    bits(0.5),
    70,
    ...floats,
    0,
  ]);
  expect([...rows.subarray(0, 12)].every((word) => word === 0)).toBe(true);
  packSamplingRow(rows, 0, rowOf({ isGreedy: true, topK: 3 }));
  expect(rows[3]).toBe(1);
});

test("chunks cover a slice, at most 32 of them", () => {
  const cases: [number, number, number][] = [
    [1, 4096, 1],
    [4096, 4096, 1],
    [4097, 4096, 2],
    [128_256, 4096, 32],
    [151_936, 4864, 32],
    [262_144, 8192, 32],
  ];
  for (const [numVocab, chunk, numChunks] of cases)
    expect(chunksOf(numVocab)).toEqual({ chunk, numChunks });
});

test("a sampling workgroup is a power of two that the adapter allows", () => {
  const adapter = (isSoftware: boolean, limit: number): AdapterInfo => ({
    ...({} as AdapterInfo),
    isSoftware,
    limits: {
      ...({} as AdapterInfo["limits"]),
      maxComputeInvocationsPerWorkgroup: limit,
      maxComputeWorkgroupSizeX: limit,
    },
  });
  const cases: [boolean, number, SamplingUse, number][] = [
    [true, 1024, "full", 16],
    [true, 1024, "sorted", 64],
    [false, 1024, "full", 512],
    [false, 1024, "sorted", 256],
    [false, 1024, "pick", 32],
    [false, 896, "full", 512],
    [false, 256, "full", 256],
  ];
  for (const [isSoftware, limit, use, size] of cases) {
    expect(samplingWorkgroupSize(adapter(isSoftware, limit), use)).toBe(size);
  }
});

/** Lists of `slices`, each given as sorted logits; mass counts `others` more tokens at the last one's logit. */
function listsOf(slices: readonly (readonly number[])[], others: number): Uint32Array {
  const words = slices.flatMap((logits, slice) => {
    const list = new Array<number>(CANDIDATE_WORDS).fill(0);
    const mass = logits.reduce((sum, x) => sum + Math.exp(x - (logits[0] ?? 0)), 0);
    list[0] = bits(mass + others * Math.exp((logits.at(-1) ?? 0) - (logits[0] ?? 0)));
    list[1] = logits.length + others;
    for (let i = 0; i < MAX_CANDIDATES; i++) {
      list[2 + 2 * i] = bits(logits[i] ?? -Infinity);
      list[3 + 2 * i] = i < logits.length ? slice * 100_000 + i : NO_TOKEN;
    }
    return list;
  });
  return Uint32Array.from(words);
}

const flat = Array.from({ length: 64 }, () => 1);
const steep = Array.from({ length: 64 }, (_, i) => -i);
const cases = [
  { what: "greedy", row: { isGreedy: true, topP: 0.9 }, slices: [flat, flat], needs: false },
  { what: "unfiltered", row: {}, slices: [flat, flat], needs: false },
  { what: "k = 64", row: { topK: 64, topP: 0.999 }, slices: [flat, flat], needs: false },
  { what: "k = 65", row: { topK: 65 }, slices: [flat, flat], needs: true },
  {
    what: "k = 65 and min-p stops earlier",
    row: { topK: 65, minP: 0.01 },
    slices: [steep, steep],
    needs: false,
  },
  {
    what: "k = 65, whole vocabulary listed",
    row: { topK: 65 },
    slices: [[1, 0], [2]],
    others: 0,
    needs: false,
  },
  { what: "64 hold top-p", row: { topP: 0.9 }, slices: [steep, steep], needs: false },
  {
    what: "64 of 2,128 equal ones hold 3 %",
    row: { topP: 0.031 },
    slices: [flat, flat],
    needs: true,
  },
  {
    what: "64 of 2,128 equal ones hold 3 %, enough",
    row: { topP: 0.03 },
    slices: [flat, flat],
    needs: false,
  },
  { what: "min-p passes 64", row: { minP: 0.5 }, slices: [flat], needs: true },
  {
    what: "min-p passes 64, top-p on top",
    row: { minP: 0.5, topP: 0.01 },
    slices: [flat],
    needs: true,
  },
  { what: "min-p passes few", row: { minP: 0.5 }, slices: [steep], needs: false },
  {
    what: "min-p passes few, top-p on top",
    row: { minP: 0.01, topP: 0.99 },
    slices: [steep],
    needs: false,
  },
];

test.each(cases)(
  "whole rows are needed: $what: $needs",
  ({ row, slices, others = 1000, needs }) => {
    const lists = listsOf(slices, others);
    expect(needsFullRow(lists, slices.length, packRows([rowOf(row)]), 0)).toBe(needs);
  },
);
