/** Broadcast: every rank ends with the root's bytes. */
import type { Operation } from "./operation.ts";

/** In place; all ranks give the same size. */
export async function broadcastInto(
  operation: Operation,
  bytes: Uint8Array,
  root: number,
): Promise<void> {
  if (operation.rank === root) await operation.publish(bytes);
  else await operation.recvInto(root, bytes);
}

/** Only the root knows the size; the others give undefined. */
export async function broadcastBytes(
  operation: Operation,
  bytes: Uint8Array | undefined,
  root: number,
): Promise<Uint8Array> {
  if (operation.rank !== root) return operation.recvBytes(root);
  const own = bytes ?? new Uint8Array(0);
  await operation.publish(own);
  return own;
}
