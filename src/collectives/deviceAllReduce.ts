/** The two ways of a recorded all-reduce: partials summed by the next kernel, or on the host. */
import { bytesOf } from "../common/dtype.ts";
import type { Tensor } from "../device/device.ts";
import type { HostOpIo } from "../device/launch.ts";
import type { Recorder } from "../device/recorder.ts";
import type { LiveRows, Reduction } from "./communicator.ts";
import { allocParts, type DeviceWire, narrowed, widened } from "./deviceWire.ts";
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
  { label, shape, produce }: DeviceSum,
  wire: DeviceWire,
): Reduction {
  const { rank, worldSize } = host;
  const [capacity, columns] = shape;
  const rows: LiveRows = (live) => live.numTokens;
  const arrived = allocParts(rec, label, [worldSize, capacity, columns], wire);
  const strideBytes = arrived.strideElements * bytesOf(wire);
  const sent = arrived.tensor.view(shape, rank * arrived.strideElements);
  const partial = wire === "f32" ? sent : rec.alloc(`${label} partial`, shape);
  produce(partial);
  narrowed(rec, label, partial, wire, rows, sent);
  rec.hostOp({
    label: `allReduce ${label}`,
    downloads: [sent],
    uploads: [arrived.tensor],
    run: async (io) => {
      const put = (from: number, part: { bytes: Uint8Array; offset: number }): void => {
        io.upload(arrived.tensor, part.bytes, from * strideBytes + part.offset);
      };
      await host.exchange(await io.download(0), put, { name: "allReduce", dtype: wire });
    },
  });
  return widened(rec, label, arrived, shape, rows);
}

/** The same over a wire that the host makes. */
export function recordOneShotOnHost(
  host: HostCommunicator,
  rec: Recorder,
  { label, shape, produce }: DeviceSum,
  wire: WireFormat,
): Reduction {
  const { rank, worldSize } = host;
  const partials = allocParts(rec, label, [worldSize, ...shape], "f32");
  const own = partials.tensor.view(shape, rank * partials.strideElements);
  produce(own);
  rec.hostOp({
    label: `allReduce ${label}`,
    downloads: [own],
    uploads: [partials.tensor],
    run: async (io) => {
      await exchangeRounded(host, io, partials, await io.download(0), wire);
    },
  });
  return partials;
}

/** This rank too goes on with what the others get of its partial. */
async function exchangeRounded(
  host: HostCommunicator,
  io: HostOpIo,
  { tensor: partials, strideElements }: Reduction,
  bytes: Uint8Array,
  wire: WireFormat,
): Promise<void> {
  const strideBytes = strideElements * F32_BYTES;
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
