/** Adapters that Dawn cannot tell apart: each rank gets its own, whatever thread it runs on. */
import { afterAll, expect, test, type TestContext } from "vitest";
import { NodeOpener } from "../../src/device/openNode.ts";
import { measureDevice } from "../../src/runtime/devices.ts";
import { copyLavapipe } from "../../scripts/driverCopies.ts";
import { testAdapter } from "../support/gpu.ts";
import {
  expectGreedy,
  fixtureDir,
  loadGoldens,
  LOGIT_TOLERANCE,
  logitError,
} from "../support/goldens.ts";
import { testArgs, type TestLayout, withModel } from "../support/layouts.ts";
import { residentCode } from "../support/residentCode.ts";

const NUM_COPIES = 3;
/** Between what listing adapters and what running on them brings in; see residentCode. */
const USED_KIB = 1024;
const LONG = { timeout: 600_000 };

const isHere = testAdapter === "llvmpipe" && process.platform === "linux" && process.arch === "x64";
const copies = isHere ? copyLavapipe(NUM_COPIES) : undefined;
if (copies !== undefined) process.env["VK_ICD_FILENAMES"] = copies.manifests.join(":");
afterAll(() => copies?.remove());

function needCopies({ skip }: TestContext): readonly string[] {
  if (copies === undefined) {
    skip("copies of lavapipe and the device layer: on lavapipe on linux-x64 only");
  }
  return copies?.libraries ?? [];
}

async function expectGoldens(layout: TestLayout): Promise<void> {
  const dir = fixtureDir("llama-odd");
  const goldens = await loadGoldens(dir);
  await withModel(await testArgs(dir, layout), async (model) => {
    const indices = model.resolved.report.ranks.map(({ deviceIndex }) => deviceIndex);
    expect(indices).toEqual(layout.devices);
    expect(model.resolved.report.ranks.some(({ isVirtual }) => isVirtual)).toBe(false);
    expect(await logitError(model, goldens)).toBeLessThan(LOGIT_TOLERANCE);
    await expectGreedy(model, goldens);
  });
}

/** Which libraries gained code since `before`. */
function newlyUsed(before: readonly number[], libraries: readonly string[]): boolean[] {
  return residentCode(libraries).map((size, index) => size - (before[index] ?? 0) > USED_KIB);
}

// First: until a device is opened in this process, no copy of the driver has run a shader.
test("tp 3 on worker threads: goldens, and all three drivers at work", LONG, async (context) => {
  const libraries = needCopies(context);
  const adapters = await new NodeOpener().list();
  expect(new Set(adapters.map(({ name }) => name)).size).toBe(1);
  expect(adapters).toHaveLength(NUM_COPIES);
  const before = residentCode(libraries);
  await measureDevice(0);
  expect(newlyUsed(before, libraries).filter(Boolean)).toEqual([true]);
  await expectGoldens({ tpSize: 2, executor: "workerThreads", devices: [0, 2] });
  expect(newlyUsed(before, libraries).filter(Boolean)).toEqual([true, true]);
  await expectGoldens({ tpSize: 3, executor: "workerThreads", devices: [2, 0, 1] });
  expect(newlyUsed(before, libraries)).toEqual([true, true, true]);
});

test("tp 3 in process: goldens", LONG, async (context) => {
  needCopies(context);
  await expectGoldens({ tpSize: 3, executor: "inProcess", devices: [0, 1, 2] });
});

test("Dawn says of each device that it is the one that was asked for", async (context) => {
  needCopies(context);
  const opener = new NodeOpener();
  for (const visible of ["", "2,0", "1"]) {
    process.env["TANDEM_VISIBLE_DEVICES"] = visible;
    const expected = visible === "" ? [0, 1, 2] : visible.split(",").map(Number);
    expect(await opener.list()).toHaveLength(expected.length);
    for (const [index, position] of expected.entries()) {
      const device = await opener.open({ index, label: "test" });
      expect(device.gpu.adapterInfo.device).toContain(`-tandem-${position}-uuid-`);
      await device.destroy();
    }
  }
  delete process.env["TANDEM_VISIBLE_DEVICES"];
});

test("without the layer only the first is left, and a number past it is refused", async (context) => {
  needCopies(context);
  const layer = process.env["VK_INSTANCE_LAYERS"];
  try {
    delete process.env["VK_INSTANCE_LAYERS"];
    process.env["TANDEM_DEVICE_LAYER"] = "off";
    const opener = new NodeOpener();
    expect(await opener.list()).toHaveLength(1);
    await expect(opener.open({ index: 1, label: "test" })).rejects.toThrow(
      /^device: expected an index from 0 to 0 \(2 more have .* which TANDEM_DEVICE_LAYER=off/,
    );
  } finally {
    delete process.env["TANDEM_DEVICE_LAYER"];
    if (layer !== undefined) process.env["VK_INSTANCE_LAYERS"] = layer;
  }
});
