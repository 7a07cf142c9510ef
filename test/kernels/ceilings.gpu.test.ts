import { expect } from "vitest";
import {
  fmaOperations,
  fmaRate,
  MATRIX_RESULT_ELEMENTS,
  matrixRate,
  tinyDispatch,
} from "../../src/kernels/ceilings.ts";
import { hasMatrixKernel } from "../../src/kernels/linearMatrix.ts";
import { timeLaunches } from "../../src/runtime/bench/timeLaunches.ts";
import { expectClose, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

test("each tiny dispatch sees what the one before wrote", async ({ device }) => {
  const x = guarded(device, [1], "u32");
  device.write(x.tensor, new Uint8Array(4));
  await device.run((rec) => {
    for (let i = 0; i < 7; i++) tinyDispatch(rec, { x: x.tensor });
  });
  expect(new Uint32Array(await x.read())[0]).toBe(7);
});

test("fma_rate does all its rounds", async ({ device }) => {
  const [loops, numWorkgroups] = [100, 3];
  const out = guarded(device, [numWorkgroups]);
  await device.run((rec) => {
    fmaRate(rec, { out: out.tensor, loops });
  });
  let want = 0;
  for (let start = 0; start < 8; start++) {
    let sum = start;
    for (let i = 0; i < loops; i++) sum = 0.999 * sum + 0.5;
    want += 4 * sum;
  }
  const got = new Float32Array(await out.read());
  expectClose(
    got,
    Array.from(got, () => want),
    { rtol: 1e-4, atol: 0 },
  );
  expect(fmaOperations({ out: out.tensor, loops }, 256)).toBe(3 * 256 * 100 * 64);
});

test("matrix_rate stores every sum", async ({ device, skip }) => {
  skip(!hasMatrixKernel(device.info), "no f16 subgroup matrices");
  const out = guarded(device, [2, MATRIX_RESULT_ELEMENTS]);
  await device.run((rec) => {
    matrixRate(rec, { out: out.tensor, loops: 4 }); // an even count multiplies zeros
  });
  const got = new Float32Array(await out.read());
  expect(got.every((value) => value === 0)).toBe(true);
});

test("timing counts the launches that ran and gives a figure a repeat", async ({ device }) => {
  const x = device.empty([1], "u32");
  const times = await timeLaunches(
    device,
    (rec) => {
      for (let i = 0; i < 5; i++) tinyDispatch(rec, { x });
    },
    { numRepeats: 3, warmUpMs: 0 },
  );
  expect(times.numLaunches).toBe(5);
  expect(times.launchUs).toHaveLength(3);
  expect(times.launchUs.every((us) => us > 0)).toBe(true);
  expect(times.encodeUs).toBeGreaterThan(0);
  const total = new Uint32Array(await device.readBytes(x))[0];
  expect(total).toBe(5 * (1 + 3)); // warm-up and repeats
});
