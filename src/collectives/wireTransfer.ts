/** Whole vectors in a wire format: what the algorithms that do not cut x into segments use. */
import { Accumulator, addInto, bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";
import { decodeWire, encodeWire, wireBytes, type WireFormat } from "./wire.ts";

/** Rounds x in place and returns its encoding, in memory of its own. */
export function rounded(wire: WireFormat, x: Float32Array): Uint8Array {
  const encoded = new Uint8Array(wireBytes(wire, x.length));
  encodeWire(wire, x, encoded);
  if (wire !== "f32") decodeWire(wire, encoded, x);
  return encoded;
}

/** target becomes what `from` sends. */
export async function recvValues(
  operation: Operation,
  from: number,
  target: Float32Array,
  wire: WireFormat,
): Promise<void> {
  if (wire === "f32") {
    await operation.recvInto(from, bytesOfArray(target));
    return;
  }
  const encoded = new Uint8Array(wireBytes(wire, target.length));
  await operation.recvInto(from, encoded);
  decodeWire(wire, encoded, target);
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
    return;
  }
  const values = new Float32Array(target.length);
  await recvValues(operation, from, values, wire);
  addInto(target, 0, values);
}
