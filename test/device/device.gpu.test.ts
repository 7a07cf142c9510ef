import { expect } from "vitest";
import { DeviceError, DeviceLostError, ShapeError } from "../../src/common/errors.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { defineKernel, pack, u32 } from "../../src/kernels/kernel.ts";
import type { Tensor } from "../../src/device/device.ts";
import { openTestDevice, randomF32, test } from "../support/gpu.ts";

test("uploads of any size come back, in chunks, from shared memory and with odd tails", async ({
  device,
}) => {
  for (const length of [1, 3, 1023, 1 << 21]) {
    const values = randomF32(length, length);
    const tensor = device.upload(values, [length]);
    expect(await device.read(tensor)).toEqual(values);
    device.free(tensor);
  }
  const halves = Uint16Array.of(1, 2, 3);
  const odd = device.upload(halves, [3], "bf16");
  expect(new Uint16Array(await device.readBytes(odd)).subarray(0, 3)).toEqual(halves);
  const shared = new Float32Array(new SharedArrayBuffer(64)).fill(2.5);
  const fromShared = device.upload(shared, [16]);
  expect([...(await device.read(fromShared))]).toEqual(Array.from({ length: 16 }, () => 2.5));
});

test("a view that ends outside its tensor is refused with both sizes", ({ device }) => {
  const tensor = device.empty([4, 8], "f32", "table");
  expect(() => tensor.view([4], 30)).toThrow(ShapeError);
  expect(() => tensor.view([4], 30)).toThrow("table: a view of [4] at element 30 ends at 34");
});

test("a binding at an unaligned offset is refused before WebGPU sees it", ({ device }) => {
  const tensor = device.empty([256], "f32", "table");
  expect(() => tensor.view([8], 8).binding()).toThrow("starts at byte 32");
  expect(tensor.view([8], 64).binding().offset).toBe(256);
});

const broken = defineKernel<{ x: Tensor }>({
  name: "broken",
  sources: [],
  prelude: () => "@compute @workgroup_size(1) fn main() { let a: u32 = 1.5; }",
  launch: ({ x }) => ({ params: pack(u32(0)), inputs: [x], outputs: [], workgroups: [1, 1, 1] }),
});

test("a shader that does not compile names the kernel and the line", async () => {
  const device = await openTestDevice();
  const x = device.empty([4]);
  const run = device.run((rec) => {
    broken(rec, { x });
  });
  await expect(run).rejects.toThrow(
    /kernel broken does not compile: line 1: .*f32|abstract-float/s,
  );
  await device.destroy();
});

test("an error that nobody awaits surfaces at the next use of the device", async () => {
  const device = await openTestDevice();
  device.gpu.createBuffer({ label: "impossible", size: 16, usage: 0 });
  await expect(device.idle()).rejects.toThrow(DeviceError);
  expect(() => {
    device.check();
  }).toThrow(DeviceError);
  await device.destroy();
});

test("a lost device fails what runs, and says so", async () => {
  const device = await openTestDevice();
  const failures: Error[] = [];
  device.onFailure((error) => failures.push(error));
  device.gpu.destroy(); // as a driver reset would, from below the device layer
  await device.gpu.lost;
  await Promise.resolve();
  expect(failures[0]).toBeInstanceOf(DeviceLostError);
  const tensor = (): unknown =>
    device.record(() => {
      device.empty([1]);
    });
  expect(tensor).toThrow(DeviceLostError);
});

test("a storage binding past the limit is refused with the size and the limit", async ({
  device,
}) => {
  const limit = device.info.limits.maxStorageBufferBindingSize;
  const rec = device.record(() => undefined);
  const tooLarge = rec.alloc("huge", [limit / 4 + 1]);
  const small = device.empty([4]);
  const entry = device.pipelines.get({
    label: "noop",
    code: "@compute @workgroup_size(1) fn main() {}",
    overrides: {},
    numInputs: 1,
    numOutputs: 1,
  });
  await entry.ready;
  const launch = (): void => {
    rec.launch({
      label: "noop",
      pipeline: entry,
      params: pack(u32(0)),
      inputs: [small],
      outputs: [tooLarge],
      workgroups: [1, 1, 1],
    });
  };
  expect(launch).toThrow(`ends at ${limit}`);
});

test("two devices on one adapter are independent", async ({ device }) => {
  const other = await openTestDevice();
  const [a, b] = [device.upload(randomF32(8, 1), [8]), other.upload(randomF32(8, 2), [8])];
  await other.run(() => undefined, liveRows(0));
  expect(await device.read(a)).toEqual(randomF32(8, 1));
  expect(await other.read(b)).toEqual(randomF32(8, 2));
  await other.destroy();
  expect(await device.read(a)).toEqual(randomF32(8, 1));
});
