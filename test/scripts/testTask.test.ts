import { expect, test } from "vitest";
import { selectAdapters, softwareAdaptersIn } from "../../scripts/testAdapters.ts";
import { readTotals, totalsLine } from "../../scripts/testTotals.ts";

test("both software adapters are tested, and hardware only where there is none", () => {
  const llvmpipe = "llvmpipe (LLVM 15.0.6, 256 bits)";
  const swiftShader = "SwiftShader Device (Subzero)";
  expect(selectAdapters([swiftShader, llvmpipe])).toEqual({
    adapters: ["llvmpipe", "SwiftShader"],
    skipped: [],
  });
  expect(selectAdapters(["Apple M2", "other"]).adapters).toEqual(["Apple M2"]);
});

test("an adapter that is missing is named with its remedy", () => {
  const { adapters, skipped } = selectAdapters(["SwiftShader Device (Subzero)"]);
  expect(adapters).toEqual(["SwiftShader"]);
  expect(skipped).toHaveLength(1);
  expect(skipped[0]).toMatch(/llvmpipe.*bookworm-backports/);
  expect(selectAdapters([]).skipped).toHaveLength(2);
});

test("drivers in VK_ICD_FILENAMES name their adapters", () => {
  const env = {
    VK_ICD_FILENAMES: "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json:/c/nvidia_icd.json",
  };
  expect(softwareAdaptersIn(env)).toEqual(["llvmpipe"]);
  expect(softwareAdaptersIn({ VK_ICD_FILENAMES: "/c/vk_swiftshader_icd.json" })).toEqual([
    "SwiftShader",
  ]);
  expect(softwareAdaptersIn({})).toEqual([]);
});

test("totals of a run", () => {
  const report = { numPassedTests: 7, numFailedTests: 1, numPendingTests: 2, numTodoTests: 1 };
  const totals = readTotals(() => JSON.stringify(report));
  expect(totals).toEqual({ passed: 7, failed: 1, skipped: 3 });
  expect(totalsLine(totals, 1)).toBe("7 passed, 1 failed, 3 skipped");
  expect(totalsLine({ passed: 4, failed: 0, skipped: 0 }, 0)).toBe("4 passed, 0 failed");
});

test("a run that failed without a failed test never reads as green", () => {
  expect(totalsLine({ passed: 4, failed: 0, skipped: 0 }, 1)).toBe("4 passed, 1 failed");
  expect(
    totalsLine(
      readTotals(() => "no report"),
      139,
    ),
  ).toBe("0 passed, 1 failed");
});
