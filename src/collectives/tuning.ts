/** Which algorithm moves an all-reduce: a pure function of bytes, worldSize and transport. */
import type { Algorithm } from "./signature.ts";
import type { TransportKind } from "./transport/transport.ts";

export interface AlgorithmQuery {
  readonly name: "allReduce" | "reduceScatter" | "allGather";
  readonly bytes: number;
  readonly worldSize: number;
  readonly transport: TransportKind;
}

/** All-reduces of up to so many bytes go one-shot; `worldSize` is the largest the row holds for. */
interface Crossover {
  readonly worldSize: number;
  readonly oneShotBytes: number;
}

const KiB = 1024;
/**
 * Source: host all-reduce, median µs, one-shot / ring; Node 24 on 2 cores, ranks as worker threads:
 *
 *   sharedMemory   2 ranks    4 ranks     8 ranks
 *    16 KiB         39 / 103   315 / 881   2232 / 3202
 *    64 KiB         97 / 136   631 / 719   3669 / 3159
 *   256 KiB       1325 / 226  4503 / 1141 28159 / 4908
 *
 * loopback has no waiting to save, and its host sums all run in one thread, so that a ring is level at
 * 16 KiB; its row is for sums on the devices, which cost no host time. tcp: not measured yet.
 */
const CROSSOVERS: Readonly<Record<TransportKind, readonly Crossover[]>> = {
  loopback: [{ worldSize: Infinity, oneShotBytes: 64 * KiB }],
  sharedMemory: [
    { worldSize: 4, oneShotBytes: 64 * KiB },
    { worldSize: Infinity, oneShotBytes: 32 * KiB },
  ],
  tcp: [{ worldSize: Infinity, oneShotBytes: 64 * KiB }],
};

export function chooseAlgorithm({ name, bytes, worldSize, transport }: AlgorithmQuery): Algorithm {
  if (name === "allGather") return "oneShot"; // either way each part crosses to each rank once
  if (name === "reduceScatter") return "ring"; // a one-shot one would move n times the bytes
  const row = CROSSOVERS[transport].find((crossover) => worldSize <= crossover.worldSize);
  return bytes <= (row?.oneShotBytes ?? 0) ? "oneShot" : "ring";
}
