/** Whole vectors in a wire format: what the algorithms that do not cut x into segments use. */
import { Accumulator, addInto } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { decodeWire, encodeWire, wireBytes, type WireFormat } from "./wire.ts";

/** Rounds x in place and returns its encoding, in memory of its own. */
export function rounded(wire: WireFormat, x: Float32Array): Uint8Array {
  const encoded = new Uint8Array(wireBytes(wire, x.length));
  encodeWire(wire, x, encoded);
  if (wire !== "f32") decodeWire(wire, encoded, x);
  return encoded;
}

/** target += what `from` sends. */
export async function recvAdd(
  operation: Operation,
  from: number,
  target: Float32Array,
  wire: WireFormat,
): Promise<void> {
  if (wire === "f32") {
    await operation.recv(from, new Accumulator(target, 0).add, target.byteLength);
  } else {
    addInto(target, 0, await recvWire(operation, from, target.length, wire));
  }
}

/** The `length` values that `from` sends. */
export async function recvWire(
  operation: Operation,
  from: number,
  length: number,
  wire: WireFormat,
): Promise<Float32Array> {
  const encoded = new Uint8Array(wireBytes(wire, length));
  await operation.recvInto(from, encoded);
  const values = new Float32Array(length);
  decodeWire(wire, encoded, values);
  return values;
}
