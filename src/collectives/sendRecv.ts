/** Point to point: numbered per ordered pair of ranks, so that other ranks need not take part. */
import type { Operation } from "./operation.ts";
import type { UseChunk } from "./transport/transport.ts";

/** Resolves when `bytes` may be reused; over loopback that is when the receiver has used them. */
export function sendBytes(operation: Operation, to: number, bytes: Uint8Array): Promise<void> {
  return operation.send(to, bytes);
}

/** Lends the message chunk by chunk; a size other than `expectedBytes` is an error naming both. */
export function recvChunks(
  operation: Operation,
  from: number,
  use: UseChunk,
  expectedBytes?: number,
): Promise<void> {
  return operation.recv(from, use, expectedBytes);
}
