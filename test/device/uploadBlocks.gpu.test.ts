import { expect } from "vitest";
import type { Device, Tensor } from "../../src/device/device.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { BlockUploads, MIN_BLOCK_UPLOAD_BYTES, UploadPool } from "../../src/device/uploadBlocks.ts";
import { openTestDevice, randomF32, test } from "../support/gpu.ts";
import { guarded } from "../support/guarded.ts";

/** Past two blocks of 4 MiB, and not a whole number of pieces. */
const LENGTH = (9 << 20) / 4 + 12_345;
/** Elements a piece: below the least that goes into blocks, and above; in odd numbers. */
const PIECES = [1, MIN_BLOCK_UPLOAD_BYTES / 4 - 1, MIN_BLOCK_UPLOAD_BYTES / 4, 99_999, 300_001];

function sharedCopy(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(values.byteLength));
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return bytes;
}

/** Uploads all of `values` in pieces, from first to last or from last to first. */
function uploadPieces(
  upload: (bytes: Uint8Array, offset: number) => void,
  values: Float32Array,
  isBackward: boolean,
): void {
  const bytes = sharedCopy(values);
  const cuts: [begin: number, end: number][] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = 4 * (PIECES[i % PIECES.length] ?? 1);
    cuts.push([at, Math.min(at + size, bytes.length)]);
    at += size;
  }
  for (const [begin, end] of isBackward ? cuts.reverse() : cuts) {
    upload(bytes.subarray(begin, end), begin);
  }
}

test("what a host operation uploads is there for the next commands, on every replay", async ({
  device,
}) => {
  const target = guarded(device, [LENGTH]);
  let values = new Float32Array(LENGTH);
  let isBackward = false;
  let seen = new Float32Array(0);
  const list = await device.finish(
    device.record((rec) => {
      rec.hostOp({
        label: "put",
        uploads: [target.tensor],
        run: (io) => {
          uploadPieces(
            (bytes, offset) => {
              io.upload(target.tensor, bytes, offset);
            },
            values,
            isBackward,
          );
          return Promise.resolve();
        },
      });
      rec.hostOp({
        label: "look",
        downloads: [target.tensor],
        downloadBytes: () => 4 * LENGTH,
        run: async (io) => {
          seen = new Float32Array((await io.download(0)).slice().buffer);
        },
      });
    }),
  );
  const numBlocks: number[] = [];
  for (let replay = 0; replay < 4; replay++) {
    values = randomF32(LENGTH, replay);
    isBackward = replay % 2 === 1;
    await list.replay(liveRows(1));
    expect(Buffer.compare(Buffer.from(seen.buffer), Buffer.from(values.buffer))).toBe(0);
    await device.uploadPool.idle();
    numBlocks.push(device.uploadPool.numBlocks);
  }
  const [first = 0] = numBlocks;
  expect(first).toBeGreaterThanOrEqual(3);
  expect(numBlocks).toEqual([first, first, first, first]);
  expect(new Float32Array(await target.read())).toEqual(values);
  list.destroy();
});

test("uploads at the end of a list are submitted too", async ({ device }) => {
  const target = guarded(device, [LENGTH]);
  const values = randomF32(LENGTH, 7);
  await device.run((rec) => {
    rec.hostOp({
      label: "put",
      uploads: [target.tensor],
      run: (io) => {
        io.upload(target.tensor, sharedCopy(values));
        return Promise.resolve();
      },
    });
  }, liveRows(1));
  expect(new Float32Array(await target.read())).toEqual(values);
});

/** A pool whose blocks are all taken. */
class EmptyPool extends UploadPool {
  #numLeft: number;

  constructor(device: Device, numLeft: number) {
    super(device.gpu);
    this.#numLeft = numLeft;
  }

  override take(): GPUBuffer | undefined {
    return this.#numLeft-- > 0 ? super.take() : undefined;
  }
}

test("without a block left, writeBuffer takes what there is no room for", async ({ device }) => {
  const values = randomF32(LENGTH, 8);
  for (const numLeft of [0, 1]) {
    const target: Tensor = device.empty([LENGTH]);
    const uploads = new BlockUploads(device.gpu, new EmptyPool(device, numLeft));
    expect(uploads.write(target, sharedCopy(values))).toBe(numLeft > 0);
    const pending = uploads.finish();
    expect(pending === undefined).toBe(numLeft === 0);
    if (pending === undefined) continue;
    device.gpu.queue.submit([pending.commands]);
    expect(await device.read(target)).toEqual(values);
  }
});

test("a device is destroyed while blocks wait to be mapped, and nothing is left behind", async () => {
  const device = await openTestDevice();
  const target = device.empty([LENGTH]);
  const list = await device.finish(
    device.record((rec) => {
      rec.hostOp({
        label: "put",
        uploads: [target],
        run: (io) => {
          io.upload(target, sharedCopy(new Float32Array(LENGTH)));
          return Promise.resolve();
        },
      });
    }),
  );
  await list.replay(liveRows(1));
  await device.destroy();
  await device.uploadPool.idle();
});
