/** The proof of test/support/unchecked.ts sees what it is for: faults are planted here, in launches of our own. */
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { isProved, test } from "../support/gpu.ts";

const NUM_WORDS = 8;

/** Runs `body` on one lane, with x [8] read, y [8] written, and `i` = 8: the first index out of range. */
async function run(device: Device, body: string): Promise<void> {
  const code = `
    @group(1) @binding(0) var<uniform> params: vec4u;
    @group(1) @binding(1) var<storage, read> x: array<u32>;
    @group(1) @binding(2) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(1) fn main() { let i = params.x; ${body} }`;
  const x = device.upload(
    Uint32Array.from({ length: NUM_WORDS }, (_, i) => i),
    [NUM_WORDS],
    "u32",
  );
  const y = device.empty([NUM_WORDS], "u32");
  const spec = { label: "planted", code, overrides: {}, numInputs: 1, numOutputs: 1 };
  await device.run((rec) => {
    rec.launch({
      label: "planted",
      pipeline: device.pipelines.get(spec),
      params: new Uint8Array(Uint32Array.of(NUM_WORDS, 0, 0, 0).buffer),
      inputs: [x],
      outputs: [y],
      workgroups: [1, 1, 1],
    });
  });
}

test("a launch in range passes", async ({ device }) => {
  await run(device, "y[i - 1u] = x[i - 1u];");
});

test("a read out of range is seen by what it brings", async ({ device, skip }) => {
  skip(!isProved, "bounds checks stay on");
  await expect(run(device, "y[0] = x[i];")).rejects.toThrow("differs without bounds checks");
  await expect(run(device, "y[0] = x[i + 5000u];")).rejects.toThrow(
    "differs without bounds checks",
  );
});

test("a write out of range is seen around its buffer", async ({ device, skip }) => {
  skip(!isProved, "bounds checks stay on");
  const outside = "written outside its buffer without bounds checks";
  await expect(run(device, "y[i] = 1u;")).rejects.toThrow(outside);
  await expect(run(device, "y[i + 5000u] = 1u;")).rejects.toThrow(outside);
});
