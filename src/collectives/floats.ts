/** f32 views and sums over bytes that a transport lends. */
import type { Chunk } from "./transport/transport.ts";

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

/** target[begin + i] += part[i], each sum rounded to f32 (adding in f64 and rounding once is the same). */
export function addInto(target: Float32Array, begin: number, part: Float32Array): void {
  for (let i = 0; i < part.length; i++) {
    target[begin + i] = (target[begin + i] ?? 0) + (part[i] ?? 0);
  }
}

/** target[begin + i] = base[begin + i] + part[i], for sums whose terms are still lent out. */
export function addTo(
  target: Float32Array,
  base: Float32Array,
  begin: number,
  part: Float32Array,
): void {
  for (let i = 0; i < part.length; i++) {
    target[begin + i] = (base[begin + i] ?? 0) + (part[i] ?? 0);
  }
}
