import fc from "fast-check";
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import {
  candidateField,
  CANDIDATE_WORDS,
  MAX_CANDIDATES,
  NO_TOKEN,
} from "../../src/kernels/sampling/candidateLayout.ts";
import { topCandidates } from "../../src/kernels/sampling/candidates.ts";
import { defineKernel, type Kernel, pack, u32 } from "../../src/kernels/kernel.ts";
import {
  applyPenalties,
  packPenaltyPart,
  PENALTY_PART_WORDS,
  type PenaltyPart,
  tokenCounts,
} from "../../src/kernels/sampling/penalties.ts";
import {
  gumbel,
  noiseWords,
  penaltiesOracle,
  relativeWeights,
  sortedIds,
} from "../oracles/sampling.ts";
import { expectClose, test } from "../support/gpu.ts";
import {
  type Batch,
  candidatesOfSlice,
  packRows,
  randomLogits,
  rowOf,
  sampleOnOneRank,
} from "./samplingBatch.ts";

const asF32 = (words: Uint32Array): Float32Array => new Float32Array(words.slice().buffer);

test("the candidates of a slice are its 64 best, sorted, with the slice's mass", async ({
  device,
}) => {
  const cases = fc.record({
    vocab: fc.constantFrom(1, 63, 64, 65, 331, 4096, 4097, 12_345),
    seed: fc.nat(),
    levels: fc.constantFrom(2, 40, 1e9), // few levels: thousands of ties
    temperature: fc.constantFrom(0.1, 1, 2),
    firstShare: fc.double({ min: 0, max: 0.9, noNaN: true }),
  });
  const agrees = fc.asyncProperty(
    cases,
    async ({ vocab, seed, levels, temperature, firstShare }) => {
      const logits = randomLogits(2 * vocab, seed).map((x) =>
        Math.fround(Math.round(x * levels) / levels),
      );
      if (vocab > 8) [logits[3], logits[vocab + 1]] = [-Infinity, Number.NaN];
      const rows = [rowOf({ topK: 20, temperature }), rowOf({ topP: 0.9, temperature, slot: 1 })];
      const begin = Math.floor(firstShare * vocab);
      const words = await candidatesOfSlice(device, { vocab, logits, rows }, begin, vocab);
      rows.forEach((_, row) => {
        const slice = logits.subarray(row * vocab + begin, (row + 1) * vocab);
        const list = words.subarray(row * CANDIDATE_WORDS, (row + 1) * CANDIDATE_WORDS);
        const order = sortedIds(slice).slice(0, MAX_CANDIDATES);
        const pairs = list.subarray(candidateField.entries);
        const ids = Array.from({ length: MAX_CANDIDATES }, (_, i) => pairs[2 * i + 1]);
        const padding = Array.from({ length: MAX_CANDIDATES - order.length }, () => NO_TOKEN);
        expect(ids).toEqual([...order.map((id) => id + begin), ...padding]);
        const values = asF32(pairs).filter((_, i) => i % 2 === 0);
        const wanted = order.map((id) =>
          Number.isNaN(slice[id] ?? 0) ? -Infinity : (slice[id] ?? 0) + 0,
        );
        expect([...values].map((x) => x + 0)).toEqual([...wanted, ...padding.map(() => -Infinity)]);
        const mass = relativeWeights(slice, sortedIds(slice), temperature).reduce(
          (a, b) => a + b,
          0,
        );
        expectClose([asF32(list)[candidateField.mass] ?? 0], [mass], { rtol: 1e-5, atol: 0 });
        expect(list[candidateField.size]).toBe(slice.length);
      });
    },
  );
  await fc.assert(agrees, { numRuns: 40, seed: 2 });
});

/** counts -> p of being this far from the expected shares is below 1e-3 above this, 15 degrees of freedom. */
const CHI_SQUARE_15 = 37.7;

function chiSquare(ids: readonly number[], shares: readonly number[]): number {
  return shares.reduce((sum, share, id) => {
    const seen = ids.filter((sampled) => sampled === id).length;
    if (share === 0) return seen === 0 ? sum : Infinity;
    return sum + (seen - ids.length * share) ** 2 / (ids.length * share);
  }, 0);
}

function normalised(weights: readonly number[]): number[] {
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

test("draws follow the softmax, over positions and over seeds, with and without filters", async ({
  device,
}) => {
  const vocab = 16;
  const logits = randomLogits(vocab, 31, 1);
  const all = Float32Array.from({ length: 4000 * vocab }, (_, i) => logits[i % vocab] ?? 0);
  const weights = [...logits].map((x) => Math.exp(x / Math.fround(0.8)));
  const order = sortedIds(logits);
  const top5 = new Set(order.slice(0, 5));
  const minP = weights.map((w) => (w >= 0.3 * Math.max(...weights) ? w : 0));
  const cases = [
    { by: "position", numDraws: 4000, fields: {}, kept: weights },
    { by: "seed", numDraws: 4000, fields: {}, kept: weights },
    {
      by: "position",
      numDraws: 1000,
      fields: { topK: 5 },
      kept: weights.map((w, id) => (top5.has(id) ? w : 0)),
    },
    { by: "seed", numDraws: 1000, fields: { minP: 0.3 }, kept: minP },
  ];
  for (const { by, numDraws, fields, kept } of cases) {
    const rows = Array.from({ length: numDraws }, (_, i) =>
      rowOf({
        slot: i,
        temperature: 0.8,
        ...fields,
        ...(by === "seed" ? { seed: i } : { seed: 42, position: i }),
      }),
    );
    const drawn = all.subarray(0, numDraws * vocab);
    const { ids } = await sampleOnOneRank(device, { vocab, logits: drawn, rows }, numDraws);
    expect(chiSquare(ids, normalised(kept)), `${by} ${JSON.stringify(fields)}`).toBeLessThan(
      CHI_SQUARE_15,
    );
  }
});

/** out[i] = gumbel of words[i]; noise[i] = the word of token i. */
const noiseProbe: Kernel<{
  readonly words: ReturnType<Device["empty"]>;
  readonly noise: ReturnType<Device["empty"]>;
  readonly out: ReturnType<Device["empty"]>;
}> = defineKernel({
  name: "noise_probe",
  sources: ["lib/random.wgsl"],
  prelude: () => `
    struct Params { seed: u32, position: u32, num_words: u32 }
    @group(1) @binding(0) var<uniform> params: Params;
    @group(1) @binding(1) var<storage, read> words: array<u32>;
    @group(1) @binding(2) var<storage, read_write> noise: array<u32>;
    @group(1) @binding(3) var<storage, read_write> out: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3u) {
      if (at.x >= params.num_words) { return; }
      noise[at.x] = token_noise(params.seed, params.position, at.x);
      out[at.x] = gumbel(words[at.x]);
    }`,
  launch: ({ words, noise, out }) => ({
    params: pack(u32(0xa4093822), u32(0x85a308d3), u32(words.numElements)),
    inputs: [words],
    outputs: [noise, out],
    workgroups: [Math.ceil(words.numElements / 64), 1, 1],
  }),
});

test("noise words are Philox's, and the noise is accurate to 4e-6 in both tails", async ({
  device,
}) => {
  const edges = [0, 1, 2, 255, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff];
  const powers = Array.from({ length: 32 }, (_, bit) => 2 ** bit);
  const list = Uint32Array.from([...edges, ...powers, ...noiseWords(1, 1, 2000)]);
  const words = device.upload(list, [list.length], "u32");
  const noise = device.empty([list.length], "u32");
  const out = device.empty([list.length]);
  await device.run((rec) => {
    noiseProbe(rec, { words, noise, out });
  });
  const got = [...new Uint32Array(await device.readBytes(noise))];
  expect(got).toEqual(noiseWords(0xa4093822, 0x85a308d3, list.length));
  const error = [...(await device.read(out))].map((g, i) => Math.abs(g - gumbel(list[i] ?? 0)));
  expect(Math.max(...error)).toBeLessThan(4e-6); // 3.3e-6 on an H200, whose log is less exact
});

test("penalties are exact, over steps, slices and slots that change hands", async ({ device }) => {
  const [vocab, first, width, maxSeqs] = [40, 10, 25, 4];
  const counts = device.empty([maxSeqs, width], "u32");
  device.write(counts, new Uint8Array(new Uint32Array(maxSeqs * width).fill(0x80000007).buffer));
  const lastToken = device.upload(Uint32Array.from([11, 12, 33, 39]), [maxSeqs], "u32");
  const feed = async (parts: readonly PenaltyPart[], tokens: readonly number[]): Promise<void> => {
    const packed = new Uint32Array(maxSeqs * PENALTY_PART_WORDS).fill(0xffffffff);
    parts.forEach((part, index) => {
      packPenaltyPart(packed, index, part);
    });
    const penaltyParts = device.upload(packed, [maxSeqs, PENALTY_PART_WORDS], "u32");
    const tokenIds = device.upload(Uint32Array.from(tokens), [tokens.length], "u32");
    await device.run(
      (rec) => {
        tokenCounts(rec, { penaltyParts, tokenIds, lastToken, counts, firstTokenId: first });
      },
      liveRows(tokens.length, { numPenalized: parts.length }),
    );
  };
  const fromSlot = (slot: number): number => slot + 2 ** 31;
  // slot 2: prompt 10 12 12 39, completion 12 34 34 33; slot 0: prompt 9 10, completion 34
  const slot2 = { slot: 2, firstTokenRow: 1, numTokens: 3, numPromptTokens: 3, isFirst: true };
  await feed(
    [slot2, { ...slot2, slot: 0, firstTokenRow: 4, numPromptTokens: 2 }],
    [7, 10, 12, 12, 9, 10, 34],
  );
  const part = { slot: 2, firstTokenRow: 0, numTokens: 4, numPromptTokens: 1, isFirst: false };
  await feed([part], [39, 12, 34, 34]);
  await feed([{ ...part, firstTokenRow: 1, numTokens: 1, numPromptTokens: 0 }], [12, fromSlot(2)]);
  await feed([], [12]);

  const logits = randomLogits(3 * vocab, 5);
  logits[12] = -Infinity;
  const penalties = { repetitionPenalty: 1.5, presencePenalty: 0.25, frequencyPenalty: -0.5 };
  const rows = [
    rowOf({ slot: 2, hasPenalties: true, ...penalties }),
    rowOf({ slot: 2, hasPenalties: false, ...penalties }),
    rowOf({ slot: 0, hasPenalties: true, ...penalties, repetitionPenalty: 0.5 }),
  ];
  const packed = packRows(rows);
  const capacity = packed.length / 12;
  const slice = new Float32Array(capacity * width).fill(77);
  rows.forEach((_, row) => {
    slice.set(logits.subarray(row * vocab + first, row * vocab + first + width), row * width);
  });
  const gpuLogits = device.upload(slice, [capacity, width]);
  const samplingRows = device.upload(packed, [capacity, 12], "u32");
  await device.run(
    (rec) => {
      applyPenalties(rec, { samplingRows, counts, logits: gpuLogits });
    },
    liveRows(rows.length, { numPenalized: 2 }),
  );
  const got = await device.read(gpuLogits);
  const oracle = { repetition: 1.5, presence: 0.25, frequency: -0.5 };
  const wanted = [
    penaltiesOracle(logits.subarray(0, vocab), [10, 12, 12, 39], [12, 34, 34, 33], oracle),
    logits.subarray(vocab, 2 * vocab),
    penaltiesOracle(logits.subarray(2 * vocab), [9, 10], [34], { ...oracle, repetition: 0.5 }),
  ];
  wanted.forEach((want, row) => {
    const here = got.subarray(row * width, (row + 1) * width);
    const finite = [...want.slice(first, first + width)].map((x) => Math.max(x, -1e9));
    expectClose(
      here.map((x) => Math.max(x, -1e9)),
      finite,
      { rtol: 1e-6, atol: 1e-6 },
    );
  });
  expect(got.subarray(rows.length * width).every((x) => x === 77)).toBe(true);
  const seen = new Uint32Array(await device.readBytes(counts));
  expect(seen.subarray(width, 2 * width).every((count) => count === 0x80000007)).toBe(true);
  expect([seen[2 * width + 2], seen[2 * width + 24], seen[2 * width + 23]]).toEqual([
    0x80000001, 2, 1,
  ]);
});

test("a step without filters, penalties or wide rows skips their launches", async ({ device }) => {
  const batch: Batch = {
    vocab: 50,
    logits: randomLogits(50, 1),
    rows: [rowOf({ isGreedy: true })],
  };
  const before = device.counters.launches;
  await sampleOnOneRank(device, batch);
  expect(device.counters.launches - before).toBe(2);
});

test("the tensor whose shape is wrong is named", ({ device }) => {
  const logits = device.empty([4, 100]);
  const samplingRows = device.empty([4, 11], "u32");
  const candidates = device.empty([4, CANDIDATE_WORDS], "u32");
  const record = (): unknown =>
    device.record((rec) => {
      topCandidates(rec, { logits, firstTokenId: 0, samplingRows, candidates });
    });
  expect(record).toThrow("samplingRows: expected [4, 12], got [4, 11]");
});
