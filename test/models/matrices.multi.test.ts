/**
 * Models whose linear layers run on (emulated) tensor cores: kernels that hand on activations as f16 in tiles, and
 * those that read them, agree with each other; see test/support/emulatedMatrices.ts.
 */
import { expect } from "vitest";
import { verifyLayout } from "../../src/runtime/verify.ts";
import { MatrixOpener } from "../support/emulatedMatrices.ts";
import { test } from "../support/gpu.ts";
import { fixtureDir, loadGoldens, logitError } from "../support/goldens.ts";
import { testArgs, withModel } from "../support/layouts.ts";

/** Of the logits' standard deviation: operands are rounded to f16, to within 2.7e-2; a wrong tile is off by about 1. */
const F16_TOLERANCE = 5e-2;

test.for([
  { fixture: "llama-mha", tpSize: 1 },
  { fixture: "llama-odd", tpSize: 1 }, // 72 features, not in whole tiles
  { fixture: "qwen2-bias", tpSize: 1 },
])(
  "$fixture at tp $tpSize on tensor cores",
  { timeout: 600_000 },
  async ({ fixture, tpSize }, { device, skip }) => {
    if (device.info.name.includes("llvmpipe")) skip("takes minutes to compile emulated matrices");
    const args = await testArgs(fixtureDir(fixture), { tpSize });
    const goldens = await loadGoldens(fixtureDir(fixture));
    const hooks = { opener: new MatrixOpener() };
    await withModel(
      args,
      async (model) => {
        const error = await logitError(model, goldens);
        expect(error).toBeGreaterThan(0);
        expect(error).toBeLessThan(F16_TOLERANCE);
      },
      hooks,
    );
  },
);

test(
  "taps of activations in tiles agree with one device's",
  { timeout: 600_000 },
  async ({ device, skip }) => {
    if (device.info.name.includes("llvmpipe")) skip("takes minutes to compile emulated matrices");
    const args = await testArgs(fixtureDir("llama-mha"), { tpSize: 2 });
    const report = await verifyLayout(args, [5, 17, 3, 200, 44], {
      hooks: { opener: new MatrixOpener() },
    });
    expect({ ok: report.ok, first: report.first }).toEqual({ ok: true, first: null });
  },
);
