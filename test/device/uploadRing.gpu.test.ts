import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import { UploadRing } from "../../src/device/uploadRing.ts";
import { randomF32, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

const SLOT_BYTES = 256;
const NUM_SLOTS = 3;

/** Uploads `values` in pieces that take turns to finish late. */
async function upload(device: Device, values: Float32Array<ArrayBuffer>): Promise<ArrayBuffer> {
  const target = guarded(device, [values.length]);
  const bytes = new Uint8Array(values.buffer);
  const ring = new UploadRing(device, SLOT_BYTES, NUM_SLOTS);
  try {
    for (let at = 0; at < bytes.length; at += SLOT_BYTES) {
      const piece = bytes.subarray(at, at + SLOT_BYTES);
      await ring.upload(target.tensor, at, piece.length, async (into) => {
        expect(into.length).toBe(piece.length);
        await new Promise((resolve) => setTimeout(resolve, (at / SLOT_BYTES) % 3));
        into.set(piece);
      });
    }
    await ring.finish();
  } finally {
    await ring.destroy();
  }
  return await target.read();
}

test("pieces arrive where they belong, more of them than buffers, and nothing else is written", async ({
  device,
}) => {
  for (const length of [1, 64, 65, 1000]) {
    const values = randomF32(length, length);
    expect(new Float32Array(await upload(device, values))).toEqual(values);
  }
});

test("no more pieces are under way than there are buffers", async ({ device }) => {
  const target = device.empty([1024]);
  const ring = new UploadRing(device, SLOT_BYTES, NUM_SLOTS);
  let [running, most] = [0, 0];
  for (let at = 0; at < 4096; at += SLOT_BYTES) {
    await ring.upload(target, at, SLOT_BYTES, async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running -= 1;
    });
  }
  await ring.destroy();
  expect(running).toBe(0);
  expect(most).toBe(NUM_SLOTS);
});

test("the first failure is thrown, after all pieces that write have ended", async ({ device }) => {
  const target = device.empty([1024]);
  const ring = new UploadRing(device, SLOT_BYTES, NUM_SLOTS);
  let numEnded = 0;
  const piece = async (fails: boolean): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    numEnded += 1;
    if (fails) throw new Error("the file ended");
  };
  const work = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await ring.upload(target, 0, 4, () => piece(i === 1));
    await ring.finish();
  };
  await expect(work()).rejects.toThrow("the file ended");
  await ring.destroy();
  expect(numEnded).toBeGreaterThan(1);
  expect(numEnded).toBeLessThan(20);
});
