import { expect } from "vitest";
import { LIVE_SIZE_BYTES, liveRows, packLiveCounts } from "../../src/device/liveCounts.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import type { Tensor } from "../../src/device/tensor.ts";
import { linear } from "../../src/kernels/linear.ts";
import { rmsNorm } from "../../src/kernels/rmsNorm.ts";
import { always, gemv } from "../kernels/linearCase.ts";
import { linearOracle } from "../oracles/linear.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { expectClose, openTestDevice, randomF32, test } from "../support/gpu.ts";

const HIDDEN = 32;
const CAPACITY = 8;
const TOLERANCE = { rtol: 1e-5, atol: 1e-6 };

/** out = norm(norm(x)), with a temporary in the arena. */
function normTwice(rec: Recorder, x: Tensor, weight: Tensor, out: Tensor): void {
  const once = rec.alloc("once", x.shape);
  rmsNorm(rec, { x, weight, out: once, eps: 1e-6 });
  rmsNorm(rec, { x: once, weight, out, eps: 1e-6 });
}

test("a replay covers the live rows of its counts and no others", async ({ device }) => {
  const x = randomF32(CAPACITY * HIDDEN, 1);
  const w = randomF32(HIDDEN, 2);
  const [xGpu, weight] = [device.upload(x, [CAPACITY, HIDDEN]), device.upload(w, [HIDDEN])];
  const out = device.upload(new Float32Array(CAPACITY * HIDDEN).fill(-7), [CAPACITY, HIDDEN]);
  const list = await device.finish(
    device.record((rec) => {
      normTwice(rec, xGpu, weight, out);
    }),
  );
  const want = rmsNormOracle(rmsNormOracle(x, w, 1e-6), w, 1e-6);
  for (const rows of [1, 3, 8]) {
    device.write(out, new Uint8Array(new Float32Array(CAPACITY * HIDDEN).fill(-7).buffer));
    await list.replay(liveRows(rows));
    const got = await device.read(out);
    expectClose(got.subarray(0, rows * HIDDEN), want.subarray(0, rows * HIDDEN), TOLERANCE);
    expect([...got.subarray(rows * HIDDEN)].every((value) => value === -7)).toBe(true);
  }
  list.destroy();
});

test("a list reads counts that its caller writes with a step's inputs", async ({ device }) => {
  const inputs = 16; // features
  const counts = LIVE_SIZE_BYTES / 4;
  const live = device.empty([64 + counts], "u32", "inputs", 0x0040).view([counts], 64); // from byte 256 on
  const x = randomF32(CAPACITY * inputs, 7);
  const w = randomF32(HIDDEN * inputs, 8);
  const tensor = device.upload(w, [HIDDEN, inputs]);
  const out = device.empty([CAPACITY, HIDDEN]);
  const list = await device.finish(
    device.record((rec) => {
      linear(rec, {
        x: device.upload(x, [CAPACITY, inputs]),
        weight: { parts: [{ tensor, outOffset: 0 }], outFeatures: HIDDEN, inFeatures: inputs },
        out,
        rows: "tokens",
        choices: always(gemv(8, 16, "alone", "load")), // one workgroup, which reads how many rows are live
      });
    }),
    1,
    live,
  );
  const want = linearOracle({ x, weight: w, inFeatures: inputs, outFeatures: HIDDEN });
  for (const rows of [5, 2, 8]) {
    device.write(out, new Uint8Array(new Float32Array(CAPACITY * HIDDEN).fill(-7).buffer));
    device.write(live, new Uint8Array(packLiveCounts(liveRows(rows)).buffer));
    await list.replay(liveRows(rows));
    const got = await device.read(out);
    expectClose(got.subarray(0, rows * HIDDEN), want.subarray(0, rows * HIDDEN), TOLERANCE);
    expect([...got.subarray(rows * HIDDEN)].every((value) => value === -7)).toBe(true);
  }
  list.destroy();
});

test("a steady-state replay creates no buffer, bind group or pipeline", async ({ device }) => {
  const x = device.upload(randomF32(CAPACITY * HIDDEN, 3), [CAPACITY, HIDDEN]);
  const weight = device.upload(randomF32(HIDDEN, 4), [HIDDEN]);
  const out = device.empty([CAPACITY, HIDDEN]);
  const list = await device.finish(
    device.record((rec) => {
      normTwice(rec, x, weight, out);
      rec.hostOp({
        label: "look",
        downloads: [out],
        run: async (io) => {
          await io.download(0);
        },
      });
      rec.hostOp({
        label: "later",
        downloads: [out],
        detached: true,
        run: async (io) => {
          await io.download(0);
        },
      });
    }),
    2,
  );
  await list.replay(liveRows(2));
  const before = { ...device.counters, pipelines: device.pipelines.numPipelines };
  for (let step = 0; step < 5; step++) await list.replay(liveRows(1 + step));
  await list.detached;
  const { buffers, bindGroups, allocatedBytes } = device.counters;
  expect({ buffers, bindGroups, allocatedBytes }).toEqual({
    buffers: before.buffers,
    bindGroups: before.bindGroups,
    allocatedBytes: before.allocatedBytes,
  });
  expect(device.pipelines.numPipelines).toBe(before.pipelines);
  list.destroy();
});

test("warming up dispatches each pipeline once for the device, and writes nothing", async () => {
  const device = await openTestDevice(); // its own, so that no other test has run the kernel
  const x = device.upload(randomF32(CAPACITY * HIDDEN, 9), [CAPACITY, HIDDEN]);
  const out = device.upload(new Float32Array(CAPACITY * HIDDEN).fill(-7), [CAPACITY, HIDDEN]);
  const record = (): Recorder =>
    device.record((rec) => {
      normTwice(rec, x, device.upload(randomF32(HIDDEN, 10), [HIDDEN]), out);
    });
  const warmed: string[] = [];
  for (const recorder of [record(), record()]) {
    const list = await device.finish(recorder);
    await list.warmUp((label) => warmed.push(label));
    list.destroy();
  }
  expect(warmed).toEqual(["rms_norm"]); // two launches in each of two lists
  expect([...(await device.read(out))].every((value) => value === -7)).toBe(true);
  await device.destroy();
});

test("a host operation that a step does without is left out, and costs no submit", async ({
  device,
}) => {
  const x = randomF32(CAPACITY * HIDDEN, 5);
  const w = randomF32(HIDDEN, 6);
  const [xGpu, weight] = [device.upload(x, [CAPACITY, HIDDEN]), device.upload(w, [HIDDEN])];
  const once = device.empty([CAPACITY, HIDDEN]);
  const out = device.empty([CAPACITY, HIDDEN]);
  let numRuns = 0;
  const list = await device.finish(
    device.record((rec) => {
      rmsNorm(rec, { x: xGpu, weight, out: once, eps: 1e-6 });
      rec.hostOp({
        label: "sometimes",
        downloads: [once],
        isNeeded: (live) => live.numLogprobRows > 0,
        run: async (io) => {
          numRuns += 1;
          expect((await io.download(0)).byteLength).toBe(io.live.numTokens * HIDDEN * 4);
        },
      });
      rmsNorm(rec, { x: once, weight, out, eps: 1e-6 });
    }),
  );
  const want = rmsNormOracle(rmsNormOracle(x, w, 1e-6), w, 1e-6);
  for (const numLogprobRows of [0, 1, 0]) {
    device.write(out, new Uint8Array(out.sizeBytes));
    const before = { submits: device.counters.submits, numRuns };
    await list.replay(liveRows(CAPACITY, { numLogprobRows }));
    expect(device.counters.submits - before.submits).toBe(1 + numLogprobRows);
    expect(numRuns - before.numRuns).toBe(numLogprobRows);
    expectClose(await device.read(out), want, TOLERANCE);
  }
  list.destroy();
});

test("a host operation downloads, uploads, and later launches see it", async ({ device }) => {
  const x = device.upload(randomF32(2 * HIDDEN, 5), [2, HIDDEN]);
  const weight = device.upload(new Float32Array(HIDDEN).fill(1), [HIDDEN]);
  const out = device.empty([2, HIDDEN]);
  await device.run((rec) => {
    const normed = rec.alloc("normed", [2, HIDDEN]);
    const changed = rec.alloc("changed", [2, HIDDEN]);
    rmsNorm(rec, { x, weight, out: normed, eps: 1e-6 });
    rec.hostOp({
      label: "negate",
      downloads: [normed],
      uploads: [changed],
      run: async (io) => {
        const bytes = (await io.download(0)).slice();
        const negated = new Float32Array(bytes.buffer).map((value) => -3 * value);
        // over shared memory: the device layer must copy it, since Dawn on Node crashes on it
        const shared = new Uint8Array(new SharedArrayBuffer(negated.byteLength));
        shared.set(new Uint8Array(negated.buffer));
        io.upload(changed, shared);
      },
    });
    rmsNorm(rec, { x: changed, weight, out, eps: 0 });
  }, liveRows(2));
  const ones = new Float32Array(HIDDEN).fill(1);
  const normed = rmsNormOracle(await device.read(x), ones, 1e-6).map((value) => -3 * value);
  expectClose(await device.read(out), rmsNormOracle(normed, ones, 0), TOLERANCE);
});

test("a failing host operation fails the replay with its own error", async ({ device }) => {
  const weight = device.upload(randomF32(HIDDEN, 6), [HIDDEN]);
  const run = device.run((rec) => {
    rec.hostOp({
      label: "fail",
      downloads: [weight],
      run: () => Promise.reject(new Error("the peer has left")),
    });
  }, liveRows(1));
  await expect(run).rejects.toThrow("the peer has left");
});

test("timestamps give each launch its GPU time", async ({ device }) => {
  const x = device.upload(randomF32(CAPACITY * HIDDEN, 7), [CAPACITY, HIDDEN]);
  const weight = device.upload(randomF32(HIDDEN, 8), [HIDDEN]);
  const out = device.empty([CAPACITY, HIDDEN]);
  const list = await device.finish(
    device.record((rec) => {
      normTwice(rec, x, weight, out);
    }),
  );
  const timer = device.timer();
  await list.replay(liveRows(CAPACITY), timer);
  const times = await timer.read();
  expect(times.map(({ label }) => label)).toEqual(["rms_norm", "rms_norm"]);
  expect(times.every(({ timeUs }) => timeUs > 0 && timeUs < 1e6)).toBe(true);
  list.destroy();
});
