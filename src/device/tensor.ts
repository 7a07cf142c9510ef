/** A typed, shaped view of device memory. */
import { bytesOf, type DType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { product, roundUp } from "../common/math.ts";

/** Bindings and arena offsets are multiples of this: the largest alignment WebGPU allows an adapter to ask for. */
export const OFFSET_ALIGNMENT = 256;

/** Where a tensor's bytes live. An arena storage gets its buffer when the recording is finished. */
export class TensorStorage {
  readonly sizeBytes: number;
  readonly label: string;
  #buffer: GPUBuffer | undefined;
  #offsetBytes = 0;

  constructor(sizeBytes: number, label: string, buffer?: GPUBuffer) {
    this.sizeBytes = sizeBytes;
    this.label = label;
    this.#buffer = buffer;
  }

  /** True until the arena has given this storage its place. */
  get isPending(): boolean {
    return this.#buffer === undefined;
  }

  get buffer(): GPUBuffer {
    if (this.#buffer === undefined) {
      throw new ShapeError(`${this.label}: used before its recording was finished`);
    }
    return this.#buffer;
  }

  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  place(buffer: GPUBuffer, offsetBytes: number): void {
    this.#buffer = buffer;
    this.#offsetBytes = offsetBytes;
  }
}

/** Row-major elements of one dtype; f16 and bf16 are packed two to a u32. */
export class Tensor {
  readonly storage: TensorStorage;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Offset inside the storage. */
  readonly viewOffsetBytes: number;

  constructor(storage: TensorStorage, shape: readonly number[], dtype: DType, viewOffsetBytes = 0) {
    this.storage = storage;
    this.shape = shape;
    this.dtype = dtype;
    this.viewOffsetBytes = viewOffsetBytes;
  }

  get label(): string {
    return this.storage.label;
  }

  get numElements(): number {
    return product(this.shape);
  }

  /** Bytes of the elements; a binding rounds up to whole u32. */
  get sizeBytes(): number {
    return this.numElements * bytesOf(this.dtype);
  }

  get buffer(): GPUBuffer {
    return this.storage.buffer;
  }

  /** Offset inside the GPU buffer. */
  get offsetBytes(): number {
    return this.storage.offsetBytes + this.viewOffsetBytes;
  }

  /** The same bytes under another shape, from `offsetElements` on; must stay inside this tensor. */
  view(shape: readonly number[], offsetElements = 0): Tensor {
    const end = offsetElements + product(shape);
    if (offsetElements < 0 || end > this.numElements) {
      throw new ShapeError(
        `${this.label}: a view of [${shape.join(", ")}] at element ${offsetElements} ends at ${end}, past the tensor's ${this.numElements}`,
      );
    }
    const offsetBytes = this.viewOffsetBytes + offsetElements * bytesOf(this.dtype);
    return new Tensor(this.storage, shape, this.dtype, offsetBytes);
  }

  /** The binding of this tensor; checks alignment, which WebGPU would reject later with less to say. */
  binding(): GPUBufferBinding {
    if (this.offsetBytes % OFFSET_ALIGNMENT !== 0) {
      throw new ShapeError(
        `${this.label}: a binding starts at byte ${this.offsetBytes}; expected a multiple of ${OFFSET_ALIGNMENT}`,
      );
    }
    return {
      buffer: this.buffer,
      offset: this.offsetBytes,
      size: Math.max(4, roundUp(this.sizeBytes, 4)),
    };
  }
}

/** Throws a ShapeError that names the argument unless the tensor has exactly this shape. */
export function expectShape(name: string, tensor: Tensor, shape: readonly number[]): void {
  const same =
    tensor.shape.length === shape.length && tensor.shape.every((size, i) => size === shape[i]);
  if (!same) {
    throw new ShapeError(
      `${name}: expected [${shape.join(", ")}], got [${tensor.shape.join(", ")}]`,
    );
  }
}

/** Throws a ShapeError that names the argument unless the tensor has one of these dtypes. */
export function expectDType(name: string, tensor: Tensor, dtypes: readonly DType[]): void {
  if (!dtypes.includes(tensor.dtype)) {
    throw new ShapeError(`${name}: expected dtype ${dtypes.join(" or ")}, got ${tensor.dtype}`);
  }
}
