/**
 * How f32 values travel. A narrower wire halves or quarters the bytes at the price of one rounding a
 * transfer; sums are always f32. Bit-equality on all ranks survives, since a value is rounded once, by
 * the rank that sends it, and every rank, the sender too, goes on with the rounded value.
 *
 * wire   bytes a value   error of one rounding of v, in a block whose largest magnitude is m
 * f32    4               0
 * f16    2               2^-11 |v|, or 2^-25 below 2^-14; beyond 65,504 infinite
 * bf16   2               2^-8 |v|
 * q8     1.125           m / 254; a block with a NaN or an infinity becomes NaN
 */
import { bytesOfArray } from "./floats.ts";

/** Wire dtypes of floats. q8: blocks of 32 values share an f32 scale, each value is 8 bits of it. */
export const WIRE_FORMATS = ["f32", "f16", "bf16", "q8"] as const;
export type WireFormat = (typeof WIRE_FORMATS)[number];

/** Values that share a scale in q8. */
export const Q8_BLOCK = 32;

/** 127 of it are still a finite f32, however the division rounds. */
const Q8_MAX_SCALE = 2.679e36;

/** Bytes that `length` values take on the wire. */
export function wireBytes(wire: WireFormat, length: number): number {
  if (wire === "f32") return 4 * length;
  if (wire === "q8") return 4 * Math.ceil(length / Q8_BLOCK) + length;
  return 2 * length;
}

/** Rounds `x` into `target`, which is 4-byte aligned and has `wireBytes(wire, x.length)` bytes. */
export function encodeWire(wire: WireFormat, x: Float32Array, target: Uint8Array): void {
  const { buffer, byteOffset } = target;
  if (wire === "f32") target.set(bytesOfArray(x));
  else if (wire === "f16") new Float16Array(buffer, byteOffset, x.length).set(x);
  else if (wire === "bf16") encodeBf16(x, new Uint16Array(buffer, byteOffset, x.length));
  else encodeQ8(x, target);
}

/** The values of `source`, which is 4-byte aligned, into `x`. */
export function decodeWire(wire: WireFormat, source: Uint8Array, x: Float32Array): void {
  const { buffer, byteOffset } = source;
  if (wire === "f32") bytesOfArray(x).set(source);
  else if (wire === "f16") x.set(new Float16Array(buffer, byteOffset, x.length));
  else if (wire === "bf16") decodeBf16(new Uint16Array(buffer, byteOffset, x.length), x);
  else decodeQ8(source, x);
}

/** Round to nearest, ties to even; the bits of a NaN are kept from rounding up into an infinity. */
function encodeBf16(x: Float32Array, target: Uint16Array): void {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < target.length; i++) {
    const bits = words[i] ?? 0;
    const isNaN = (bits & 0x7fffffff) > 0x7f800000;
    target[i] = isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
}

function decodeBf16(source: Uint16Array, x: Float32Array): void {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < source.length; i++) words[i] = (source[i] ?? 0) << 16;
}

/** Layout: all scales, then all values, so that both are aligned whatever the length. */
function q8Parts(bytes: Uint8Array, length: number): { scales: Float32Array; values: Int8Array } {
  const numBlocks = Math.ceil(length / Q8_BLOCK);
  const { buffer, byteOffset } = bytes;
  return {
    scales: new Float32Array(buffer, byteOffset, numBlocks),
    values: new Int8Array(buffer, byteOffset + 4 * numBlocks, length),
  };
}

function encodeQ8(x: Float32Array, target: Uint8Array): void {
  const { scales, values } = q8Parts(target, x.length);
  for (let block = 0; block < scales.length; block++) {
    const begin = block * Q8_BLOCK;
    const end = Math.min(begin + Q8_BLOCK, x.length);
    let largest = 0;
    for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(x[i] ?? 0));
    scales[block] = Number.isFinite(largest) ? Math.min(largest / 127, Q8_MAX_SCALE) : Number.NaN;
    const scale = scales[block] ?? 0; // as rounded to f32: what the receiver multiplies by
    for (let i = begin; i < end; i++) values[i] = scale > 0 ? quantise((x[i] ?? 0) / scale) : 0;
  }
}

/** To nearest; a scale that underflowed could ask for more than 127. */
function quantise(ratio: number): number {
  return Math.max(-127, Math.min(127, Math.round(ratio)));
}

function decodeQ8(source: Uint8Array, x: Float32Array): void {
  const { scales, values } = q8Parts(source, x.length);
  for (let i = 0; i < x.length; i++) x[i] = (values[i] ?? 0) * (scales[(i / Q8_BLOCK) | 0] ?? 0);
}
