/** The pump on Dawn itself: it has the look at events, and gives it back. */
import { expect, test } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { testDeviceIndex } from "../support/gpu.ts";

async function withDevice(use: (device: Device) => Promise<void>): Promise<void> {
  const index = await testDeviceIndex();
  const device = await new NodeOpener().open({ index, label: "pump", ownsThread: true });
  try {
    await use(device);
  } finally {
    await device.destroy();
  }
}

/** Copies x to the host and back, `times` times; returns what arrived. */
async function roundTrips(device: Device, times: number): Promise<number[]> {
  const x = device.upload(Float32Array.of(1, 2, 3, 4), [1, 4]);
  const seen: number[] = [];
  const list = await device.finish(
    device.record((rec) => {
      rec.hostOp({
        label: "count up",
        downloads: [x],
        uploads: [x],
        run: async (io) => {
          const bytes = await io.download(0);
          const values = new Float32Array(bytes.slice().buffer).map((value) => value + 1);
          seen.push(values[0] ?? 0);
          io.upload(x, new Uint8Array(values.buffer));
        },
      });
    }),
  );
  for (let i = 0; i < times; i++) await list.replay(liveRows(1));
  list.destroy();
  return seen;
}

test("a blocking rank gets every map, in order", async () => {
  await withDevice(async (device) => {
    await device.idle();
    const seen = await roundTrips(device, 20);
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => i + 2));
    expect(device.pump?.numLooks).toBeGreaterThan(0); // else Dawn's own polling did it all
  });
});

test("while something else is pending, maps and that other thing both end", async () => {
  await withDevice(async (device) => {
    const queue = device.gpu.queue;
    const before = queue.onSubmittedWorkDone(); // Dawn queues its look: the pump has none to take
    const seen = await roundTrips(device, 3);
    const after = queue.onSubmittedWorkDone();
    expect(seen).toEqual([2, 3, 4]);
    await Promise.all([before, after]);
  });
});

test("a device that is destroyed under a map rejects it", async () => {
  await withDevice(async (device) => {
    const x = device.empty([1 << 20]);
    const reading = device.read(x);
    device.gpu.destroy();
    await expect(reading).rejects.toThrow();
  });
});
