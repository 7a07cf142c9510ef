/** Carries out a ShardPlan: streams each part of each target to the device. */
import { bf16ToF32, bytesOf, type WeightDType } from "../../src/common/dtype.ts";
import { WeightsError } from "../../src/common/errors.ts";
import { roundUp } from "../../src/common/math.ts";
import type { Device, Tensor } from "../../src/device/device.ts";
import { UploadRing } from "../../src/device/uploadRing.ts";
import { convert } from "../../src/kernels/convert.ts";
import { dummyFill } from "../../src/kernels/dummyFill.ts";
import type { LinearWeight } from "../../src/kernels/linear.ts";
import type { WeightStore } from "../layers/context.ts";
import { DummyWeights, dummyScale, fnv1a32 } from "./dummy.ts";
import { f16ToF32 } from "./float16.ts";
import { ROW_PADDING_ELEMENTS, type ShardPlan, targetDType, type TargetTensor } from "./plan.ts";
import { type Piece, pieceRanges, splitTarget } from "./pieces.ts";
import { readPacked, sizeOf, type Slice, type WeightSource } from "./weightSource.ts";

/** Called as bytes reach the device; `total` is all of this rank's weights. */
export type LoadProgress = (doneBytes: number, totalBytes: number) => void;

/** writeBuffer copies into staging that is freed when the queue gets to it: wait this often. */
const BYTES_BETWEEN_WAITS = 256 << 20;

/** Reads under way at once, each with a mapped buffer; small models take small buffers. */
const NUM_SLOTS = 8;
const MAX_SLOT_BYTES = 8 << 20;
const MIN_SLOT_BYTES = 64 << 10;

/** One rank's weights on its device. */
class DeviceWeights implements WeightStore {
  readonly linears = new Map<string, LinearWeight>();
  readonly vectors = new Map<string, Tensor>();

  linear(name: string): LinearWeight {
    const weight = this.linears.get(name);
    if (weight === undefined) throw new WeightsError(`${name}: not in this rank's plan`);
    return weight;
  }

  vector(name: string): Tensor {
    const tensor = this.vectors.get(name);
    if (tensor === undefined) throw new WeightsError(`${name}: not in this rank's plan`);
    return tensor;
  }

  optionalVector(name: string): Tensor | undefined {
    return this.vectors.get(name);
  }
}

/**
 * Loads every target of the plan. Matrices keep the source's dtype, or are converted on the device
 * to `dtype`; vectors (norms, biases) become f32, which is exact.
 */
export async function loadWeights(
  device: Device,
  plan: ShardPlan,
  source: WeightSource,
  dtype: WeightDType | "auto",
  progress?: LoadProgress,
): Promise<WeightStore> {
  const loader = new Loader(device, plan, source, dtype, progress);
  const store = new DeviceWeights();
  try {
    for (const target of plan.targets) {
      const isMatrix = target.shape.length === 2;
      if (isMatrix) store.linears.set(target.name, await loader.matrix(target));
      else store.vectors.set(target.name, await loader.vector(target));
    }
    await loader.uploaded();
    await device.idle();
    return store;
  } finally {
    await loader.close();
  }
}

class Loader {
  readonly #device: Device;
  readonly #source: WeightSource;
  readonly #dtype: WeightDType | "auto";
  readonly #progress: LoadProgress | undefined;
  readonly #totalBytes: number;
  readonly #ring: UploadRing;
  #doneBytes = 0;
  #sinceWait = 0;

  constructor(
    device: Device,
    plan: ShardPlan,
    source: WeightSource,
    dtype: WeightDType | "auto",
    progress: LoadProgress | undefined,
  ) {
    this.#device = device;
    this.#source = source;
    this.#dtype = dtype;
    this.#progress = progress;
    this.#totalBytes = plan.targets.reduce((sum, target) => sum + this.#sourceBytes(target), 0);
    const share = roundUp(Math.ceil(this.#totalBytes / NUM_SLOTS), MIN_SLOT_BYTES);
    this.#ring = new UploadRing(device, Math.min(share, MAX_SLOT_BYTES), NUM_SLOTS);
  }

  /** Resolves when everything read so far is on its way to the device. */
  async uploaded(): Promise<void> {
    await this.#ring.finish();
  }

  async close(): Promise<void> {
    await this.#ring.destroy();
  }

  /** A 2-D target, in pieces of rows that each fit one storage binding. */
  async matrix(target: TargetTensor): Promise<LinearWeight> {
    const stored = targetDType(target, this.#source);
    const wanted = this.#dtype === "auto" ? stored : this.#dtype;
    const [outFeatures = 0, inFeatures = 0] = target.shape;
    const widest = Math.max(bytesOf(stored), bytesOf(wanted));
    const maxRows = Math.floor(
      this.#device.info.limits.maxStorageBufferBindingSize / (inFeatures * widest),
    );
    const parts: { tensor: Tensor; outOffset: number }[] = [];
    for (const piece of splitTarget(target, maxRows)) {
      const shape = [piece.numRows, inFeatures];
      const raw = this.#device.empty(shape, stored, target.name);
      await this.#fill(raw, target, piece);
      if (wanted !== stored) await this.#ring.finish();
      const tensor = wanted === stored ? raw : await this.#converted(raw, shape, wanted);
      parts.push({ tensor, outOffset: piece.outOffset });
    }
    return { parts, outFeatures, inFeatures };
  }

  /** A 1-D target as f32: small, so it goes through the host. */
  async vector(target: TargetTensor): Promise<Tensor> {
    const [numElements = 0] = target.shape;
    const values = new Float32Array(numElements);
    for (const part of target.parts) {
      const { dtype } = this.#source.info(part.source);
      const packed = await readPacked(this.#source, part.source, { rows: part.rows });
      values.set(widen(packed, dtype), part.destinationRow);
      this.#advance(packed.byteLength);
    }
    return this.#device.upload(values, [numElements], "f32", target.name);
  }

  async #fill(raw: Tensor, target: TargetTensor, piece: Piece): Promise<void> {
    const rowBytes = (raw.shape[1] ?? 0) * bytesOf(raw.dtype);
    if (this.#source instanceof DummyWeights) {
      await this.#fillDummy(raw, target, piece);
      return;
    }
    for (const { part, rows, pieceRow } of pieceRanges(target, piece)) {
      const columns = part.columns;
      const slice = {
        rows,
        rowPaddingElements: ROW_PADDING_ELEMENTS,
        ...(columns === undefined ? {} : { columns }),
      };
      await this.#stream(raw, part.source, slice, pieceRow * rowBytes);
    }
  }

  /** Several reads at once, each into mapped memory; else chunk by chunk, through writeBuffer. */
  async #stream(raw: Tensor, name: string, slice: Slice, start: number): Promise<void> {
    const reads = this.#source.sliceReads?.(name, slice, this.#ring.slotBytes);
    if (reads === undefined) {
      await this.#source.readSlice(name, slice, async ({ offset, bytes }) => {
        this.#device.write(raw, bytes, start + offset);
        await this.#paced(bytes.byteLength);
      });
      return;
    }
    for (const { offset, sizeBytes, into } of reads) {
      await this.#ring.upload(raw, start + offset, sizeBytes, async (view) => {
        await into(view);
        this.#advance(sizeBytes);
      });
    }
  }

  /** Made on the device: nothing to read, nothing to upload. */
  async #fillDummy(raw: Tensor, target: TargetTensor, piece: Piece): Promise<void> {
    const rowBytes = (raw.shape[1] ?? 0) * bytesOf(raw.dtype);
    const ranges = pieceRanges(target, piece);
    await this.#device.run((rec) => {
      for (const { part, rows, pieceRow } of ranges) {
        const { shape } = this.#source.info(part.source);
        const { begin, end } = part.columns ?? { begin: 0, end: shape[1] ?? 0 };
        dummyFill(rec, {
          out: raw,
          seed: fnv1a32(part.source),
          scale: dummyScale(part.source, shape),
          firstRow: rows.begin,
          firstColumn: begin,
          numColumns: end - begin,
          outRow: pieceRow,
          numRows: sizeOf(rows),
        });
      }
    });
    for (const { rows } of ranges) this.#advance(sizeOf(rows) * rowBytes);
  }

  async #converted(raw: Tensor, shape: readonly number[], to: WeightDType): Promise<Tensor> {
    const tensor = this.#device.empty(shape, to, raw.label);
    await this.#device.run((rec) => {
      convert(rec, { from: raw, to: tensor });
    });
    this.#device.free(raw);
    return tensor;
  }

  async #paced(numBytes: number): Promise<void> {
    this.#advance(numBytes);
    this.#sinceWait += numBytes;
    if (this.#sinceWait < BYTES_BETWEEN_WAITS) return;
    this.#sinceWait = 0;
    await this.#device.idle();
  }

  #advance(numBytes: number): void {
    this.#doneBytes += numBytes;
    this.#progress?.(Math.min(this.#doneBytes, this.#totalBytes), this.#totalBytes);
  }

  /** Bytes that the parts of a target will stream, row padding included. */
  #sourceBytes(target: TargetTensor): number {
    return target.parts.reduce((sum, { source, rows, columns }) => {
      const width = columns === undefined ? 1 : roundUp(sizeOf(columns), ROW_PADDING_ELEMENTS);
      return sum + sizeOf(rows) * width * bytesOf(this.#source.info(source).dtype);
    }, 0);
  }
}

function widen(packed: Uint8Array, dtype: WeightDType): Float32Array {
  const { buffer, byteOffset, byteLength } = packed.slice();
  if (dtype === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2);
  return Float32Array.from(halves, dtype === "f16" ? f16ToF32 : bf16ToF32);
}
