/** f32 views and sums over bytes that a transport lends. */
import { createSimdAdd } from "./simdSum.ts";
import type { Chunk } from "./transport/transport.ts";

/** Scratch memory of this thread and nothing else: no rank's state. */
const simdAdd = createSimdAdd();

/** Below it the copies into the module's memory cost more than they save. */
const SIMD_LENGTH = 512;

/** The bytes of a typed array, not copied. */
export function bytesOfArray(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** The floats of bytes; copied only where they are not aligned. */
export function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

/** Adds arriving chunks of f32 to `target`, from element `begin` on, straight from the lent view. */
export class Accumulator {
  readonly #target: Float32Array;
  readonly #begin: number;

  constructor(target: Float32Array, begin: number) {
    this.#target = target;
    this.#begin = begin;
  }

  /** Bound, to be given to a transport as it is. */
  readonly add = ({ bytes, offset }: Pick<Chunk, "bytes" | "offset">): void => {
    addInto(this.#target, this.#begin + offset / 4, floatsOf(bytes));
  };
}

/** target[begin + i] += part[i], each sum rounded to f32. */
export function addInto(target: Float32Array, begin: number, part: Float32Array): void {
  addTo(target, target, begin, part);
}

/** target[begin + i] = base[begin + i] + part[i], for sums whose terms are still lent out. */
export function addTo(
  target: Float32Array,
  base: Float32Array,
  begin: number,
  part: Float32Array,
): void {
  if (part.length >= SIMD_LENGTH && simdAdd !== undefined) simdAdd(target, base, begin, part);
  else addPlain(target, base, begin, part);
}

/** Without SIMD; adding in f64 and rounding once gives the same bits as adding in f32. */
export function addPlain(
  target: Float32Array,
  base: Float32Array,
  begin: number,
  part: Float32Array,
): void {
  for (let i = 0; i < part.length; i++) {
    target[begin + i] = (base[begin + i] ?? 0) + (part[i] ?? 0);
  }
}
