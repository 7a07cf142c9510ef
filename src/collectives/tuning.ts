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
const CROSSOVERS: Readonly<Record<TransportKind, readonly Crossover[]>> = {
  loopback: [{ worldSize: Infinity, oneShotBytes: 64 * KiB }],
  sharedMemory: [{ worldSize: Infinity, oneShotBytes: 64 * KiB }],
  tcp: [{ worldSize: Infinity, oneShotBytes: 64 * KiB }],
};

export function chooseAlgorithm({ name, bytes, worldSize, transport }: AlgorithmQuery): Algorithm {
  if (name === "allGather") return "oneShot"; // either way each part crosses to each rank once
  if (name === "reduceScatter") return "ring"; // a one-shot one would move n times the bytes
  const row = CROSSOVERS[transport].find((crossover) => worldSize <= crossover.worldSize);
  return bytes <= (row?.oneShotBytes ?? 0) ? "oneShot" : "ring";
}
