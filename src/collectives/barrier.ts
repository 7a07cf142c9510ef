/** Barrier: ends on every rank once all have begun it. */
import { exchange } from "./allGather.ts";
import type { Operation } from "./operation.ts";

export function barrierOneShot(operation: Operation): Promise<void> {
  return exchange(operation, new Uint8Array(0), () => undefined, 0);
}
