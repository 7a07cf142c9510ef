/** Gather: the root ends with all ranks' parts, in rank order; the others with nothing. */
import type { Operation } from "./operation.ts";

/** Parts may differ in size. */
export async function gatherBytes(
  operation: Operation,
  own: Uint8Array,
  root: number,
): Promise<Uint8Array<ArrayBuffer>[] | undefined> {
  if (operation.rank !== root) {
    await operation.send(root, own);
    return undefined;
  }
  const parts = await Promise.all(operation.peers.map((from) => operation.recvBytes(from)));
  parts.splice(root, 0, new Uint8Array(own));
  return parts;
}
