/** The two ways of a recorded all-reduce: partials summed by the next kernel, or on the host. */
import { bytesOf } from "../common/dtype.ts";
import { roundUp } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import type { HostOpIo } from "../device/launch.ts";
import type { Recorder } from "../device/recorder.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import type { Reduction } from "./communicator.ts";
import { bytesOfArray, floatsOf } from "./floats.ts";
import type { HostCommunicator } from "./hostCommunicator.ts";
import { decodeWire, wireBytes, type WireFormat } from "./wire.ts";
import { rounded } from "./wireTransfer.ts";

const F32_BYTES = bytesOf("f32");

/** What is summed: its shape, its name, and the kernel that writes this rank's partial. */
export interface DeviceSum {
  readonly label: string;
  readonly shape: readonly [rows: number, columns: number];
  readonly produce: (partial: Tensor) => void;
}

/** Every rank publishes its partial; each ends with all of them, to be summed in rank order. */
export function recordOneShot(
  host: HostCommunicator,
  rec: Recorder,
  { label, shape: [rows, columns], produce }: DeviceSum,
): Reduction {
  const { rank, worldSize } = host;
  // each partial starts where a binding may
  const strideBytes = roundUp(rows * columns * F32_BYTES, OFFSET_ALIGNMENT);
  const strideElements = strideBytes / F32_BYTES;
  const partials = rec.alloc(label, [worldSize, strideElements]);
  const own = partials.view([rows, columns], rank * strideElements);
  produce(own);
  const wire = host.wireFor(rows * columns * F32_BYTES);
  rec.hostOp({
    label: `allReduce ${label}`,
    downloads: [own],
    uploads: [partials],
    run: async (io) => {
      const bytes = await io.download(0);
      if (wire !== "f32") await exchangeRounded(host, io, partials, strideBytes, bytes, wire);
      else {
        await host.exchange(bytes, (from, part) => {
          io.upload(partials, part.bytes, from * strideBytes + part.offset);
        });
      }
    },
  });
  return { tensor: partials, count: worldSize, strideElements };
}

/** As above over a narrower wire; this rank too goes on with what the others get of its partial. */
async function exchangeRounded(
  host: HostCommunicator,
  io: HostOpIo,
  partials: Tensor,
  strideBytes: number,
  bytes: Uint8Array,
  wire: WireFormat,
): Promise<void> {
  const x = floatsOf(bytes).slice(); // mapped memory is not ours to change
  const own = rounded(wire, x);
  io.upload(partials, bytesOfArray(x), host.rank * strideBytes);
  const arriving = Array.from(
    { length: host.worldSize },
    () => new Uint8Array(wireBytes(wire, x.length)),
  );
  const values = new Float32Array(x.length);
  const put = (from: number, part: { bytes: Uint8Array; offset: number }): void => {
    const encoded = arriving[from];
    if (encoded === undefined) return;
    encoded.set(part.bytes, part.offset);
    if (part.offset + part.bytes.length < encoded.length) return;
    decodeWire(wire, encoded, values);
    io.upload(partials, bytesOfArray(values), from * strideBytes);
  };
  await host.exchange(own, put, { name: "allReduce", dtype: wire });
}

/** Summed on the host; what is final is uploaded while the rest still travels. */
export function recordHostSum(
  host: HostCommunicator,
  rec: Recorder,
  { label, shape, produce }: DeviceSum,
): Reduction {
  const partial = rec.alloc(`${label} partial`, shape);
  const sum = rec.alloc(label, shape);
  const memory = new Float32Array(partial.numElements);
  produce(partial);
  rec.hostOp({
    label: `allReduce ${label}`,
    downloads: [partial],
    uploads: [sum],
    run: async (io) => {
      const mapped = floatsOf(await io.download(0));
      const x = memory.subarray(0, mapped.length);
      x.set(mapped);
      const onFinal = (begin: number, end: number): void => {
        io.upload(sum, bytesOfArray(x.subarray(begin, end)), begin * F32_BYTES);
      };
      await host.allReduce(x, { onFinal });
    },
  });
  return { tensor: sum, count: 1, strideElements: sum.numElements };
}
