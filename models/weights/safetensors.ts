/** Whole safetensors files in memory: small ones, such as golden outputs and dumped logits. */
import { bf16ToF32 } from "../../src/common/dtype.ts";
import { ShapeError, WeightsError } from "../../src/common/errors.ts";
import { product, roundUp } from "../../src/common/math.ts";
import { f16ToF32 } from "./float16.ts";
import type { FileSource } from "./files.ts";
import {
  DTYPE_BYTES,
  headerLength,
  LENGTH_BYTES,
  parseHeader,
  type SafetensorsDType,
} from "./safetensorsHeader.ts";

/** A tensor of a whole file; `bytes` is little-endian, row-major. */
export interface HostTensor {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Reads and checks every tensor of a file that fits in memory. */
export async function readSafetensors(
  files: FileSource,
  path: string,
): Promise<ReadonlyMap<string, HostTensor>> {
  return parseSafetensors(await files.read(path, 0, await files.size(path)), path);
}

/** `bytes` is a whole file; `path` is for messages. The tensors are views, not copies. */
export function parseSafetensors(bytes: Uint8Array, path: string): ReadonlyMap<string, HostTensor> {
  const length = headerLength(path, bytes, bytes.byteLength);
  const header = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
  const infos = parseHeader(path, header, bytes.byteLength);
  return new Map(
    infos.map(({ name, dtype, shape, begin, end }) => [
      name,
      { dtype, shape, bytes: bytes.subarray(begin, end) },
    ]),
  );
}

/** One file's bytes. Tensors are stored in the order given; the data begins at a multiple of 8. */
export function writeSafetensors(
  tensors: Readonly<Record<string, HostTensor>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    const sizeBytes = product(shape) * DTYPE_BYTES[dtype];
    if (bytes.byteLength !== sizeBytes) {
      throw new ShapeError(`${name}: expected ${sizeBytes} bytes, got ${bytes.byteLength}`);
    }
    header[name] = { dtype, shape, data_offsets: [end, end + sizeBytes] };
    end += sizeBytes;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = roundUp(json.byteLength, 8);
  const file = new Uint8Array(LENGTH_BYTES + length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(length), true);
  file.fill(0x20, LENGTH_BYTES, LENGTH_BYTES + length); // the format pads with spaces
  file.set(json, LENGTH_BYTES);
  let offset = LENGTH_BYTES + length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, offset);
    offset += bytes.byteLength;
  }
  return file;
}

/** An f32 tensor for writeSafetensors. */
export function f32Tensor(values: Float32Array, shape: readonly number[]): HostTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { dtype: "F32", shape, bytes };
}

/** The values of an F32, F16 or BF16 tensor; exact. */
export function toFloat32(name: string, { dtype, bytes }: HostTensor): Float32Array {
  const copy = bytes.slice(); // views begin anywhere; typed arrays need alignment
  if (dtype === "F32") return new Float32Array(copy.buffer);
  if (dtype === "BF16") return Float32Array.from(new Uint16Array(copy.buffer), bf16ToF32);
  if (dtype === "F16") return Float32Array.from(new Uint16Array(copy.buffer), f16ToF32);
  throw new WeightsError({ what: name, expected: "dtype F32, F16 or BF16", got: dtype });
}
