import fc from "fast-check";
import { expect, test } from "vitest";
import { builtinConfig } from "../../../models/config/builtin.ts";
import {
  attentionFlops,
  decodeFlops,
  decodePositions,
  headFlops,
  kvBytesPerPosition,
  layerFlops,
  prefillFlops,
  sequenceFlops,
} from "../../../src/runtime/bench/bounds.ts";
import { drawLengths } from "../../../src/runtime/bench/throughput.ts";

const config = builtinConfig("Llama-3.2-1B");

test("Llama-3.2-1B: two operations a weight, 32 KiB of f16 KV cache a position", () => {
  // 1.236e9 parameters of the published model, of which the tied embedding is lm_head's
  expect((layerFlops(config) + headFlops(config)) / 2e9).toBeCloseTo(1.2357, 3);
  expect(kvBytesPerPosition(config, "f16")).toBe(2 * 16 * 8 * 64 * 2);
  expect(kvBytesPerPosition(config, "f32")).toBe(2 * kvBytesPerPosition(config, "f16"));
});

test("attention counts each pair of a token and what it sees, once for q k and once for p v", () => {
  const onePair = 4 * config.numLayers * config.totalNumHeads * config.headDim;
  expect(attentionFlops(config, 0, 1)).toBe(onePair);
  expect(attentionFlops(config, 10, 11)).toBe(11 * onePair);
  expect(attentionFlops(config, 0, 3)).toBe(6 * onePair);
});

test("prefill and decode add up to the sequence; decode reads a position more each step", () => {
  const lengths = fc.record({
    promptLength: fc.integer({ min: 1, max: 500 }),
    outputLength: fc.integer({ min: 1, max: 50 }),
  });
  const addsUp = fc.property(lengths, (sequence) => {
    const { promptLength, outputLength } = sequence;
    const whole = prefillFlops(config, promptLength) + decodeFlops(config, sequence);
    expect(whole).toBe(sequenceFlops(config, sequence));
    const steps = Array.from({ length: outputLength - 1 }, (_, i) => promptLength + i + 1);
    expect(decodePositions(sequence)).toBe(steps.reduce((sum, context) => sum + context, 0));
  });
  fc.assert(addsUp);
});

test("lengths stay within their range and repeat with their seed", () => {
  const workload = {
    numPrompts: 200,
    promptLength: 100,
    outputLength: 3,
    rangeRatio: 0.5,
    seed: 7,
    warmUp: 0,
    repeats: 1,
  };
  const lengths = drawLengths(workload);
  expect(lengths).toEqual(drawLengths(workload));
  expect(lengths).not.toEqual(drawLengths({ ...workload, seed: 8 }));
  const prompts = lengths.map(({ promptLength }) => promptLength);
  expect(Math.min(...prompts)).toBeGreaterThanOrEqual(50);
  expect(Math.max(...prompts)).toBeLessThanOrEqual(150);
  expect(new Set(prompts).size).toBeGreaterThan(50);
  const fixed = drawLengths({ ...workload, rangeRatio: 0 });
  expect(fixed.every((one) => one.promptLength === 100 && one.outputLength === 3)).toBe(true);
});
