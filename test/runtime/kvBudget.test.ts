import { describe, expect, test } from "vitest";
import { bytesToProbe, planKvCache } from "../../src/runtime/kvBudget.ts";
import type { RankReport } from "../../src/runtime/rankSpec.ts";

const MIB = 1 << 20;
const run = {
  maxModelLen: 64,
  maxNumSeqs: 4,
  blockSize: 16,
  gpuMemoryUtilization: null,
  kvCacheMemoryMiB: null,
};
const hardware: RankReport = {
  rank: 0,
  deviceName: "Toy GPU",
  deviceIndex: 0,
  isSoftware: false,
  multipliesHalves: false,
  numRanksOnDevice: 1,
  numRanksToCome: 0,
  weightBytes: 100 * MIB,
  activationBytes: 10 * MIB,
  deviceMs: 0,
  weightsMs: 0,
  kvBlockBytes: MIB,
  maxBindingBlocks: 1e6,
};
const software = { ...hardware, isSoftware: true };
const second = { ...hardware, rank: 1 };
const elsewhere = { ...second, deviceIndex: 1 };
const blocks = (
  options: Partial<typeof run> | { gpuMemoryUtilization: number } | { kvCacheMemoryMiB: number },
  reports: readonly RankReport[],
  freeMiB: readonly number[] = [],
): number => {
  const free = new Map(freeMiB.map((mib, device) => [device, mib * MIB]));
  return planKvCache({ ...run, ...options }, reports, free).numBlocks;
};

describe("blocks", () => {
  test("what the longest batch needs, if it fits, and no more", () => {
    expect(blocks({}, [hardware], [1000])).toBe(16); // 4 sequences of 4 blocks
    expect(blocks({}, [software])).toBe(16);
  });

  test("within 0.9 of what is free and the weights, less both weights and activations", () => {
    expect(blocks({}, [hardware], [32])).toBe(Math.floor(132 * 0.9 - 110)); // 8
    const named = { gpuMemoryUtilization: 0.5 };
    expect(blocks(named, [hardware], [1000])).toBe(1100 * 0.5 - 110); // more than the batch needs
  });

  test("ranks of an adapter share it; the tightest of all ranks decides", () => {
    const half = Math.floor((400 * 0.5 - 220) / 2);
    expect(half).toBeLessThan(0);
    expect(blocks({ gpuMemoryUtilization: 0.9 }, [hardware, second], [200])).toBe(
      Math.floor((400 * 0.9 - 220) / 2), // 70
    );
    const apart = [hardware, elsewhere];
    expect(blocks({ gpuMemoryUtilization: 0.9 }, apart, [200, 100])).toBe(Math.floor(180 - 110));
  });

  test("copies of the model that are yet to come find their share", () => {
    const first = { ...hardware, numRanksOnDevice: 2, numRanksToCome: 1 };
    const named = { gpuMemoryUtilization: 1 };
    const ofFirst = blocks(named, [first], [900]); // 1000 MiB in all: 500 each
    expect(ofFirst).toBe(500 - 110);
    const last = { ...hardware, numRanksOnDevice: 2 };
    const freeThen = 900 - ofFirst - 10 - 100;
    expect(blocks(named, [last], [freeThen])).toBe(500 - 110);
    const onSoftware = { ...software, numRanksOnDevice: 2, kvBlockBytes: 64 * MIB };
    expect(blocks({}, [onSoftware])).toBe(8); // half of 1 GiB
  });

  test("a named size is taken whole, and no binding is exceeded", () => {
    expect(blocks({ kvCacheMemoryMiB: 50 }, [software])).toBe(50);
    expect(blocks({ kvCacheMemoryMiB: 50 }, [{ ...software, maxBindingBlocks: 20 }])).toBe(20);
  });

  test("too little for one sequence is an error with the arithmetic and a length that works", () => {
    const plan = (): unknown => blocks({ kvCacheMemoryMiB: 3 }, [software]);
    expect(plan).toThrow("4 blocks of 16 tokens for a sequence of maxModelLen 64");
    expect(plan).toThrow("--max-model-len 48 or less");
  });
});

test("the arithmetic adds up: what is planned is within the limit", () => {
  const { ranks } = planKvCache({ ...run, gpuMemoryUtilization: 0.9 }, [hardware, second], new Map([[0, 500 * MIB]])); // prettier-ignore
  for (const { weightBytes, activationBytes, kvBytes, limitBytes, source } of ranks) {
    expect(weightBytes + activationBytes + kvBytes).toBeLessThanOrEqual(limitBytes);
    expect([limitBytes, source]).toEqual([(700 * 0.9 * MIB) / 2, "measured"]);
  }
});

test("software adapters and named sizes are not probed; others only as far as there is use", () => {
  expect(bytesToProbe(run, [software])).toBe(0);
  expect(bytesToProbe({ ...run, kvCacheMemoryMiB: 5 }, [hardware])).toBe(0);
  expect(bytesToProbe({ ...run, gpuMemoryUtilization: 0.8 }, [hardware])).toBe(Infinity);
  const enough = bytesToProbe(run, [hardware]);
  const free = new Map([[0, enough]]);
  expect(planKvCache(run, [hardware], free).numBlocks).toBe(16);
  const lessFree = new Map([[0, enough - 2 * MIB]]);
  expect(planKvCache(run, [hardware], lessFree).numBlocks).toBeLessThan(16);
});
