/** The two ways of a recorded reduce-scatter: summed on the device, in one step, or on the host. */
import { bytesOf } from "../common/dtype.ts";
import { ceilDiv } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import { liveBytes } from "../device/liveCounts.ts";
import type { Recorder } from "../device/recorder.ts";
import { sumPartials } from "../kernels/sumResidualNorm.ts";
import type { LiveRows } from "./communicator.ts";
import { allocParts, type DeviceWire, narrowed, widened } from "./deviceWire.ts";
import { bytesOfArray, floatsOf } from "./floats.ts";
import type { HostCommunicator } from "./hostCommunicator.ts";
import { chunkRange } from "./schedules.ts";

/** Elements that the kernel which sums takes at once. */
const QUAD = 4;

export interface DeviceScatter {
  readonly label: string;
  readonly x: Tensor; // [capacity, columns] f32
  readonly rows: LiveRows;
}

/** Whether the device can add the parts of x. */
export function canSumOnDevice({ x }: Pick<DeviceScatter, "x">): boolean {
  return (x.shape[1] ?? 1) % QUAD === 0;
}

/** Every rank sends each chunk straight to its owner, whose device adds them in rank order. */
export function recordScatterOnDevice(
  host: HostCommunicator,
  rec: Recorder,
  { label, x: partial, rows }: DeviceScatter,
  wire: DeviceWire,
): Tensor {
  const { rank, worldSize } = host;
  const [capacity = 0, columns = 1] = partial.shape;
  const chunkRows = ceilDiv(capacity, worldSize);
  const x = narrowed(rec, label, partial, wire, rows);
  const arrived = allocParts(rec, `${label} parts`, [worldSize, chunkRows, columns], wire);
  const parts = arrived.tensor;
  const strideBytes = arrived.strideElements * bytesOf(wire);
  const rowBytes = columns * bytesOf(wire);
  rec.hostOp({
    label: `reduceScatter ${label}`,
    downloads: [x],
    downloadBytes: (live) => liveBytes(x, rows(live)),
    uploads: [parts],
    run: async (io) => {
      const bytes = await io.download(0);
      const total = rows(io.live);
      const chunkOf = (owner: number): Uint8Array => {
        const { begin, end } = chunkRange(total, worldSize, owner);
        return bytes.subarray(begin * rowBytes, end * rowBytes);
      };
      const own = chunkOf(rank);
      const put = (from: number, part: Uint8Array, offset = 0): void => {
        if (part.length > 0) io.upload(parts, part, from * strideBytes + offset);
      };
      const spec = { name: "reduceScatter", dtype: wire, bytes: bytes.length } as const;
      await host.run(spec, async (operation) => {
        const moved = operation.peers.flatMap((peer) => [
          operation.recv(
            peer,
            (chunk) => {
              put(peer, chunk.bytes, chunk.offset);
            },
            own.length,
          ),
          operation.send(peer, chunkOf(peer)),
        ]);
        put(rank, own); // while the others' are on their way
        await Promise.all(moved);
      });
    },
  });
  const out = rec.alloc(label, [chunkRows, columns]);
  const chunk: LiveRows = (live) => ceilDiv(rows(live), worldSize);
  const partials = widened(rec, `${label} parts`, arrived, [chunkRows, columns], chunk);
  sumPartials(rec, { partials, out, rows: chunk });
  return out;
}

/** By any algorithm, over any wire. */
export function recordScatterOnHost(
  host: HostCommunicator,
  rec: Recorder,
  { label, x, rows }: DeviceScatter,
): Tensor {
  const [capacity = 0, columns = 1] = x.shape;
  const out = rec.alloc(label, [ceilDiv(capacity, host.worldSize), columns]);
  const memory = new Float32Array(x.numElements);
  rec.hostOp({
    label: `reduceScatter ${label}`,
    downloads: [x],
    downloadBytes: (live) => liveBytes(x, rows(live)),
    uploads: [out],
    run: async (io) => {
      const mapped = floatsOf(await io.download(0));
      const live = memory.subarray(0, mapped.length);
      live.set(mapped);
      const chunk = await host.reduceScatter(live, { unit: columns });
      if (chunk.length > 0) io.upload(out, bytesOfArray(chunk));
    },
  });
  return out;
}
