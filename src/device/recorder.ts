/** Collects the operations of one forward pass; nothing reaches the GPU until the list is finished. */
import { bytesOf, type DType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { product } from "../common/math.ts";
import type { Device } from "./device.ts";
import type { HostOp, Launch, RecordedOp } from "./launch.ts";
import { type LiveCounts, liveBytes } from "./liveCounts.ts";
import { Tensor, TensorStorage } from "./tensor.ts";

/** Receives a tap's bytes, the live rows of the tensor, and the step's counts. */
export type TapSink = (name: string, tensor: Tensor, bytes: Uint8Array, live: LiveCounts) => void;

/** Fields of a HostOp that have a default. */
export type HostOpSpec = Pick<HostOp, "label" | "run"> &
  Partial<Pick<HostOp, "downloads" | "downloadBytes" | "uploads" | "isNeeded" | "detached">>;

/** One recording for one device. `forward` code appends to it and never awaits. */
export class Recorder {
  readonly device: Device;
  readonly ops: RecordedOp[] = [];
  readonly #tapSink: TapSink | undefined;

  constructor(device: Device, tapSink?: TapSink) {
    this.device = device;
    this.#tapSink = tapSink;
  }

  /** A temporary tensor; it lives from its first to its last use in this recording. */
  alloc(label: string, shape: readonly number[], dtype: DType = "f32"): Tensor {
    return new Tensor(new TensorStorage(product(shape) * bytesOf(dtype), label), shape, dtype);
  }

  launch(launch: Omit<Launch, "kind">): void {
    const limit = this.device.info.limits.maxStorageBufferBindingSize;
    for (const tensor of [...launch.inputs, ...launch.outputs]) {
      if (tensor.sizeBytes > limit) {
        throw new ShapeError(
          `${launch.label}: ${tensor.label} takes ${tensor.sizeBytes} bytes; a binding on ${this.device.info.name} ends at ${limit}`,
        );
      }
    }
    this.ops.push({ kind: "launch", ...launch });
  }

  /** Appends a host operation; by default it downloads the live token rows of each tensor. */
  hostOp(spec: HostOpSpec): void {
    const downloads = spec.downloads ?? [];
    this.ops.push({
      kind: "hostOp",
      label: spec.label,
      run: spec.run,
      downloads,
      downloadBytes:
        spec.downloadBytes ??
        ((live: LiveCounts, index: number) => {
          const tensor = downloads[index];
          return tensor === undefined ? 0 : liveBytes(tensor, live.numTokens);
        }),
      uploads: spec.uploads ?? [],
      isNeeded: spec.isNeeded ?? (() => true),
      detached: spec.detached ?? false,
    });
  }

  /** Hands the live rows of a tensor to the tap sink; records nothing unless taps were asked for. */
  tap(name: string, tensor: Tensor, rows?: (live: LiveCounts) => number): void {
    const sink = this.#tapSink;
    if (sink === undefined) return;
    this.hostOp({
      label: `tap ${name}`,
      downloads: [tensor],
      downloadBytes: (live) => liveBytes(tensor, (rows ?? ((l) => l.numTokens))(live)),
      run: async (io) => {
        sink(name, tensor, await io.download(0), io.live);
      },
    });
  }
}
