/** Ranks on adapters of different make: each rounds in its own way, and the goldens hold all the same. */
import { expect, test } from "vitest";
import { testDeviceIndex } from "../support/gpu.ts";
import {
  expectGreedy,
  fixtureDir,
  loadGoldens,
  LOGIT_TOLERANCE,
  logitError,
} from "../support/goldens.ts";
import {
  layoutName,
  testArgs,
  type TestLayout,
  testOpener,
  withModel,
} from "../support/layouts.ts";

const layouts: readonly TestLayout[] = [
  { tpSize: 2 },
  { ppSize: 2 },
  { tpSize: 2, executor: "workerThreads" },
];

test.for(layouts.map((layout) => ({ layout, name: layoutName(layout) })))(
  "rank 0 on this adapter, rank 1 on another, $name",
  async ({ layout }, { skip }) => {
    const own = await testDeviceIndex();
    const adapters = await testOpener.list();
    const other = adapters.findIndex(({ name }) => name !== adapters[own]?.name);
    skip(other < 0, "there is one make of adapter only");
    const dir = fixtureDir("llama-odd");
    const goldens = await loadGoldens(dir);
    const args = await testArgs(dir, { ...layout, devices: [own, other] });
    await withModel(args, async (model) => {
      const names = model.resolved.report.ranks.map(({ deviceName }) => deviceName);
      expect(new Set(names).size).toBe(2);
      expect(await logitError(model, goldens)).toBeLessThan(LOGIT_TOLERANCE);
      await expectGreedy(model, goldens);
    });
  },
);
