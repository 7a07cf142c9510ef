import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AdapterInfo } from "../../../src/device/device.ts";
import { NodeOpener } from "../../../src/device/openNode.ts";
import { linearCandidates, linearVariants } from "../../../src/kernels/linearVariant.ts";
import { tuneRanks } from "../../../src/runtime/autotune/autotuneNode.ts";
import { fastest } from "../../../src/runtime/autotune/search.ts";
import { tuningFile } from "../../../src/runtime/autotune/tuningCacheNode.ts";
import { versions } from "../../../src/runtime/bench/versionsNode.ts";
import { DEFAULT_ENGINE_ARGS } from "../../../src/runtime/engineArgs.ts";
import { resolveLayout } from "../../../src/runtime/layout.ts";
import { openModel } from "../../../src/runtime/openModelNode.ts";
import type { RankSpec } from "../../../src/runtime/rankSpec.ts";
import { testDeviceIndex } from "../../support/gpu.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tandem-autotune-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

interface Setup {
  readonly specs: readonly RankSpec[];
  readonly adapters: readonly AdapterInfo[];
  readonly adapter: AdapterInfo;
}

async function setup(): Promise<Setup> {
  const model = join(import.meta.dirname, "../../fixtures/llama-gqa-tied");
  const index = await testDeviceIndex();
  const args = { ...DEFAULT_ENGINE_ARGS, model, tpSize: 2, devices: [index] };
  const { spec, storedDType } = await openModel(args);
  const adapters = await new NodeOpener().list();
  const adapter = adapters[index];
  if (adapter === undefined) throw new Error("no adapter");
  return { specs: resolveLayout(args, spec, storedDType, adapters).specs, adapters, adapter };
}

test("full measures once and keeps; cached reads it; off and a damaged file give defaults", async () => {
  const { specs, adapters, adapter } = await setup();
  const notes: string[] = [];
  const options = { dtype: "f32", folder, note: (text: string) => void notes.push(text) } as const;

  const before = await tuneRanks(specs, adapters, { ...options, mode: "cached" });
  expect(before.map(({ tuned }) => tuned)).toEqual([{}, {}]);

  const full = await tuneRanks(specs, adapters, { ...options, mode: "full" });
  const found = full[0]?.tuned ?? {};
  const linears = Object.entries(found).filter(([entry]) => entry.startsWith("linear f32 "));
  expect(linears.length).toBeGreaterThanOrEqual(3);
  for (const [, entry] of linears) {
    for (const [field, value] of Object.entries(entry)) {
      expect(linearCandidates(field as "lanes1", adapter)).toContain(value);
    }
  }
  expect(full[1]?.tuned).toEqual(found); // both ranks are on this device

  const cached = await tuneRanks(specs, adapters, { ...options, mode: "cached" });
  expect(cached[0]?.tuned).toEqual(found);
  const again = await tuneRanks(specs, adapters, { ...options, mode: "full" });
  expect(again[0]?.tuned).toEqual(found); // nothing was missing: not measured anew
  expect(await tuneRanks(specs, adapters, { ...options, mode: "off" })).toEqual(specs);
  expect(notes).toEqual([]);

  const { name, description } = adapter;
  const key = {
    adapter: name,
    driver: description,
    dawn: versions().dawn,
    robustness: "on",
  } as const;
  await writeFile(tuningFile(folder, key), "{");
  const damaged = await tuneRanks(specs, adapters, { ...options, mode: "cached" });
  expect(damaged[0]?.tuned).toEqual({});
  expect(notes).toHaveLength(1);
});

test("a device's info carries the numbers, and its kernels take them", async () => {
  const entry = "linear bf16 40x64";
  const tuned = { [entry]: { lanes1: 64, lanes4: 5 } };
  const device = await new NodeOpener().open({
    index: await testDeviceIndex(),
    label: "tuned",
    tuned,
  });
  try {
    const shape = { capacity: 4, outFeatures: 40, inFeatures: 64, dtype: "bf16" } as const;
    const usual = linearVariants(shape, { ...device.info, tuned: undefined });
    const chosen = linearVariants(shape, device.info);
    expect(chosen[0]?.variant).toMatchObject({ workgroupSize: 64 });
    expect(chosen[1]).toEqual(usual[1]); // 5 lanes is no number that the kernel would take
    expect(linearVariants({ ...shape, outFeatures: 41 }, device.info)).toEqual(
      linearVariants({ ...shape, outFeatures: 41 }, { ...device.info, tuned: undefined }),
    );
  } finally {
    await device.destroy();
  }
});

test("a candidate must beat the default by more than noise, and the fastest one wins", async () => {
  const times: Record<number, number> = { 32: 99, 64: 90, 128: 85, 256: 120 };
  const time = async (value?: number): Promise<number> =>
    Promise.resolve(value === undefined ? 100 : (times[value] ?? Infinity));
  expect(await fastest([32, 64, 128, 256], time)).toBe(128);
  expect(await fastest([32, 256], time)).toBeUndefined();
  expect(await fastest([128], time, 0.25)).toBeUndefined();
  expect(await fastest([], time)).toBeUndefined();
});

test("a device that wakes up during the search does not make the first candidate look fast", async () => {
  let numTimed = 0;
  const time = async (): Promise<number> => Promise.resolve(numTimed++ === 0 ? 200 : 100);
  expect(await fastest([32, 64], time)).toBeUndefined();
});
