import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { plotScaling } from "../../bench/scalingPlot.ts";
import { type Machine, planSteps } from "../../bench/severalGpusPlan.ts";
import { addStep, type StepResult, summarise } from "../../bench/severalGpusSummary.ts";

const h200: Machine = { numDevices: 8, memoryBytes: 150e9, isSoftware: false };

function names(machine: Partial<Machine>): string[] {
  return planSteps({ ...h200, ...machine }).map(({ name }) => name);
}

test("eight GPUs: every layout, a model that needs several, all numbers of ranks", () => {
  expect(names({}).sort()).toEqual(
    [
      ...["devices", "verify-setup-8", "verify-tp2", "verify-tp4", "large-pp8", "large-tp8"],
      ...["collectives-2", "collectives-4", "collectives-8"],
      ...["prefill-tp2-f16", "prefill-tp4-f16", "prefill-tp8-f16"],
      ...["tp1-pp1", "tp2-pp1", "tp4-pp1", "tp8-pp1", "tp1-pp2", "tp1-pp4"].flatMap((layout) => [
        `decode-${layout}`,
        `prefill-${layout}`,
      ]),
    ].sort(),
  );
});

test("the large model is left out where the devices cannot hold it", () => {
  const hasLarge = (machine: Partial<Machine>): boolean =>
    names(machine).some((name) => name.startsWith("large"));
  expect(hasLarge({ numDevices: 2 })).toBe(true); // 71 GB each
  expect(hasLarge({ numDevices: 2, memoryBytes: 78e9 })).toBe(false);
  expect(hasLarge({ numDevices: 1 })).toBe(false);
  expect(hasLarge({ memoryBytes: null })).toBe(false);
});

test("one device has no pairs; three are used as two; software devices are named one by one", () => {
  expect(names({ numDevices: 1 })).toEqual(["devices", "decode-tp1-pp1", "prefill-tp1-pp1"]);
  expect(names({ numDevices: 3 })).not.toContain("decode-tp4-pp1");
  const steps = planSteps({ numDevices: 2, memoryBytes: null, isSoftware: true });
  const [args] = steps.filter(({ name }) => name === "decode-tp2-pp1").map((step) => step.args);
  expect(args?.join(" ")).toContain("--tp 2 --pp 1 --devices 0,1");
});

test("a step gives a row beside its bound; a failed one its last line, until it works", () => {
  const folder = mkdtempSync(join(tmpdir(), "tandem-several-"));
  const settings = { tp: 2, pp: 1, num_devices: 2 };
  const ceilings = { read_gb_per_s: 3700, map_latency_us: 38 };
  const results = [
    { batch_size: 32, tok_per_s: 4000, bound_tok_per_s: 16_000, collective_ms_per_step: 2.5 },
  ];
  const result = { benchmark: "decode", model: "/models/shape", settings, ceilings, results };
  const add = (name: string, step: Pick<StepResult, "ok" | "result" | "stderr">): void => {
    addStep(folder, { name, args: [], seconds: 3, ...step });
  };
  const row = { op: "all_reduce", algorithm: "oneShot", ranks: 2, sizeBytes: 16_384 };
  try {
    summarise(folder); // of a folder without steps
    add("decode-tp2-pp1", { ok: true, result });
    add("large-tp2", { ok: false, stderr: "loading\nerror: no memory", result: null });
    const speeds = { timeUs: 200, busbwGBps: 0.08, boundGBps: 0.16 };
    add("collectives-2", { ok: true, result: [{ ...row, ...speeds }] });
    for (let run = 0; run < 2; run++) {
      const text = summarise(folder); // the second time beside its own summary.json
      expect(text).toContain(
        "| decode, batch 32 | shape | tp 2 | 2 | 4,000 | 16,000 | 25 % | 2.5 | 3,700 | 38 |",
      );
      expect(text).toContain("| all_reduce oneShot | 2 | 16,384 | 200 | 0.08 | 0.16 | 50 % |");
      expect(text).toContain("large-tp2: failed: error: no memory");
    }
    add("large-tp2", { ok: true, result });
    const narrow = ["bench", "decode", "--collective-wire-dtype", "f16", "--json"];
    addStep(folder, { name: "narrow", args: narrow, seconds: 1, ok: true, result });
    const text = summarise(folder);
    expect(text).not.toContain("failed");
    expect(text).toContain("| decode, batch 32 | shape | tp 2, f16 sums | 2 |");
    const svg = readFileSync(join(folder, "scaling.svg"), "utf8");
    expect(svg).toContain("4,000 (25 %)");
    expect(svg).not.toMatch(/NaN|Infinity/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the plot stands without points, and draws linear scaling only where one device was measured", () => {
  expect(plotScaling("nothing", [])).toMatch(/^<svg [^]*<\/svg>\n$/);
  const point = { panel: "decode", line: "tp", tokPerS: 100, boundTokPerS: 200 };
  const two = plotScaling("a < b", [{ ...point, numDevices: 2 }]);
  expect(two).toContain("a &lt; b");
  expect(two).not.toContain("stroke-dasharray");
  expect(plotScaling("t", [{ ...point, numDevices: 1 }])).toContain("stroke-dasharray");
});
