import { expect, test } from "vitest";
import { builtinConfig } from "../../models/config/builtin.ts";
import type { AdapterInfo } from "../../src/device/device.ts";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../../src/runtime/engineArgs.ts";
import { resolveLayout, type ResolvedLayout } from "../../src/runtime/layout.ts";

const adapter = (isSoftware: boolean): AdapterInfo => {
  return { name: isSoftware ? "Toy CPU" : "Toy GPU", isSoftware } as AdapterInfo;
};
const config = builtinConfig("Llama-3.2-1B");
const spec = { dir: null, config, loadFormat: "dummy", dtype: "auto" } as const;
const resolve = (args: Partial<EngineArgs>, isSoftware = false): ResolvedLayout => {
  const adapters = [adapter(isSoftware), adapter(isSoftware)];
  const all = { ...DEFAULT_ENGINE_ARGS, model: "Llama-3.2-1B", ...args };
  return resolveLayout(all, spec, "bf16", adapters);
};

test("ranks count themselves and those of other copies of the model on their adapter", () => {
  const otherCopies = { loaded: [0, 0], toCome: [0, 1] };
  const { specs } = resolve({ tpSize: 2, devices: [0, 1], otherCopies });
  const counts = specs.map((rank) => [rank.numRanksOnDevice, rank.numRanksToCome]);
  expect(counts).toEqual([[4, 1], [2, 1]]); // prettier-ignore
  const alone = resolve({ tpSize: 2, devices: [0] }).specs;
  expect(alone.map((rank) => [rank.numRanksOnDevice, rank.numRanksToCome])).toEqual([[2, 0], [2, 0]]); // prettier-ignore
});

test("a part of a software adapter's memory cannot be asked for: nobody knows how much it has", () => {
  const part = { gpuMemoryUtilization: 0.5 };
  expect(() => resolve(part, true)).toThrow("--kv-cache-memory-mib");
  expect(resolve(part).run.gpuMemoryUtilization).toBe(0.5);
  expect(resolve({ ...part, kvCacheMemoryMiB: 64 }, true).run.kvCacheMemoryMiB).toBe(64);
});
