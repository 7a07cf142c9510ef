/**
 * What a rank believes it is doing, packed into the 32 bits that travel with each message and lie in
 * the control block: ranks compare them, so that different operations never mix their bytes.
 */
import type { DType } from "../common/dtype.ts";

export const OPERATION_NAMES = [
  "barrier",
  "allReduce",
  "allGather",
  "reduceScatter",
  "broadcast",
  "gather",
  "send",
  "allToAll",
  "sendTensorDict",
] as const;
export type OperationName = (typeof OPERATION_NAMES)[number];

export const ALGORITHMS = [
  "oneShot",
  "twoShot",
  "ring",
  "recursiveDoubling",
  "halvingDoubling",
  "twoLevel",
] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** Element types on the wire; u8 is bytes that nobody adds, q8 floats of wire.ts. */
export type WireDType = DType | "u8" | "q8";
const WIRE_DTYPES: readonly WireDType[] = ["u8", "f32", "f16", "bf16", "u32", "i32", "q8"];

export interface Signature {
  readonly name: OperationName;
  readonly algorithm: Algorithm;
  readonly dtype: WireDType;
  /** Rank in the group; only where the operation has a root. */
  readonly root?: number | undefined;
}

/** name: 5 bits, algorithm: 3, dtype: 4, root + 1: the rest. */
export function packSignature({ name, algorithm, dtype, root }: Signature): number {
  const rootBits = root === undefined ? 0 : root + 1;
  return (
    OPERATION_NAMES.indexOf(name) |
    (ALGORITHMS.indexOf(algorithm) << 5) |
    (WIRE_DTYPES.indexOf(dtype) << 8) |
    (rootBits << 12)
  );
}

export function unpackSignature(bits: number): Signature {
  const root = (bits >>> 12) - 1;
  return {
    name: OPERATION_NAMES[bits & 31] ?? "barrier",
    algorithm: ALGORITHMS[(bits >>> 5) & 7] ?? "oneShot",
    dtype: WIRE_DTYPES[(bits >>> 8) & 15] ?? "u8",
    root: root < 0 ? undefined : root,
  };
}

/** `allReduce (ring, f32, 16384 bytes)` */
export function describeSignature(bits: number, bytes?: number): string {
  const { name, algorithm, dtype, root } = unpackSignature(bits);
  const parts: string[] = [algorithm, dtype];
  if (root !== undefined) parts.push(`root ${root}`);
  if (bytes !== undefined && bytes >= 0) parts.push(`${bytes} bytes`);
  return `${name} (${parts.join(", ")})`;
}
