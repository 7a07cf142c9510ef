/** The operations of the benchmark on typed arrays: filled, run, checked. */
import { bytesOfArray, floatsOf } from "../../collectives/floats.ts";
import type { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import { chunkRanges } from "../../collectives/segments.ts";
import type { BenchCase } from "./benchPlan.ts";
import { countWrong, fillInput, inputAt, sumAt } from "./expectedData.ts";

/** One case on one rank. */
export interface PreparedCase {
  readonly count: number;
  /** The bytes that are measured, where they are not those that were asked for. */
  readonly sizeBytes: number;
  /** Runs once from fresh input; returns how many elements of this rank's result are wrong. */
  readonly check: () => Promise<number>;
  /** The call that is timed; what it computes on does not matter any more. */
  readonly run: () => Promise<unknown>;
  readonly destroy: () => void;
}

/** Ways to run one operation on `x`, which holds `count` elements. */
interface HostOp {
  /** Puts this rank's input into x. */
  readonly fill: () => void;
  readonly run: () => Promise<unknown>;
  /** Of what `run` gave. */
  readonly wrong: (result: unknown) => number;
}

export function prepareHostCase(host: HostCommunicator, asked: BenchCase): PreparedCase {
  const count = Math.floor(asked.sizeBytes / 4);
  const op = hostOp(host, asked, count);
  return {
    count,
    sizeBytes: asked.sizeBytes,
    check: async () => {
      op.fill();
      return op.wrong(await op.run());
    },
    run: op.run,
    destroy: () => undefined,
  };
}

function hostOp(host: HostCommunicator, { op, algorithm }: BenchCase, count: number): HostOp {
  switch (op) {
    case "all_reduce":
      return allReduce(host, new Float32Array(count), algorithm);
    case "reduce_scatter":
      return reduceScatter(host, new Float32Array(count), algorithm);
    case "all_gather":
      return allGather(host, new Float32Array(count), algorithm);
    case "broadcast":
      return broadcast(host, new Float32Array(count));
    case "gather":
      return gather(host, count);
    case "all_to_all":
      return allToAll(host, new Float32Array(count));
    case "send_recv":
      return sendRecv(host, new Float32Array(count));
    case "barrier":
      return { fill: () => undefined, run: () => host.barrier(), wrong: () => 0 };
  }
}

type AllReduceAlgorithm = BenchCase["algorithm"];

function allReduce(host: HostCommunicator, x: Float32Array, algorithm: AllReduceAlgorithm): HostOp {
  return {
    fill: () => {
      fillInput(x, host.rank);
    },
    run: () => host.allReduce(x, { algorithm }),
    wrong: () => {
      const wrong = countWrong(x, (i) => sumAt(i, host.worldSize));
      x.fill(0); // repeated sums would leave the range of f32
      return wrong;
    },
  };
}

function reduceScatter(
  host: HostCommunicator,
  x: Float32Array,
  algorithm: AllReduceAlgorithm,
): HostOp {
  const begin = chunkRanges(x.length, host.worldSize)[host.rank]?.begin ?? 0;
  return {
    fill: () => {
      fillInput(x, host.rank);
    },
    run: () => host.reduceScatter(x, { algorithm }),
    wrong: (chunk) => {
      const sum = (i: number): number => sumAt(begin + i, host.worldSize);
      const wrong = countWrong(chunk as Float32Array, sum);
      x.fill(0);
      return wrong;
    },
  };
}

/** Rank r's chunk of the result holds inputAt(i, r). */
function gathered(all: Float32Array, worldSize: number): number {
  return chunkRanges(all.length, worldSize).reduce((wrong, { begin, end }, rank) => {
    const chunk = all.subarray(begin, end);
    return wrong + countWrong(chunk, (i) => inputAt(begin + i, rank));
  }, 0);
}

function allGather(host: HostCommunicator, x: Float32Array, algorithm: AllReduceAlgorithm): HostOp {
  const { rank, worldSize } = host;
  const { begin = 0, end = 0 } = chunkRanges(x.length, worldSize)[rank] ?? {};
  const own = x.subarray(begin, end);
  return {
    fill: () => {
      fillInput(own, rank, begin);
    },
    run: () => (algorithm === "ring" ? host.allGatherChunks(x) : host.allGather(own)),
    wrong: (all) => gathered(all as Float32Array, worldSize),
  };
}

function broadcast(host: HostCommunicator, x: Float32Array): HostOp {
  return {
    fill: () => {
      fillInput(x, host.rank);
    },
    run: () => host.broadcast(x, 0),
    wrong: () => countWrong(x, (i) => inputAt(i, 0)),
  };
}

function gather(host: HostCommunicator, count: number): HostOp {
  const { begin = 0, end = 0 } = chunkRanges(count, host.worldSize)[host.rank] ?? {};
  const own = new Float32Array(end - begin);
  return {
    fill: () => {
      fillInput(own, host.rank, begin);
    },
    run: () => host.gather(bytesOfArray(own), 0),
    wrong: (parts) => {
      if (parts === undefined) return 0;
      const all = new Float32Array(count);
      let at = 0;
      for (const part of (parts as Uint8Array[]).map(floatsOf)) {
        all.set(part, at);
        at += part.length;
      }
      return gathered(all, host.worldSize) + (count - at);
    },
  };
}

function allToAll(host: HostCommunicator, x: Float32Array): HostOp {
  const { rank, worldSize } = host;
  const ranges = chunkRanges(x.length, worldSize);
  const parts = ranges.map(({ begin, end }) => bytesOfArray(x.subarray(begin, end)));
  const { begin = 0, end = 0 } = ranges[rank] ?? {};
  return {
    fill: () => {
      fillInput(x, rank);
    },
    run: () => host.allToAll(parts),
    wrong: (received) =>
      (received as Uint8Array[]).reduce((wrong, part, from) => {
        const missing = Math.abs(part.length / 4 - (end - begin));
        return wrong + missing + countWrong(floatsOf(part), (i) => inputAt(begin + i, from));
      }, 0),
  };
}

/** Each rank to the next and from the one before, as in nccl-tests. */
function sendRecv(host: HostCommunicator, x: Float32Array): HostOp {
  const { rank, worldSize } = host;
  const [next, previous] = [(rank + 1) % worldSize, (rank + worldSize - 1) % worldSize];
  const arrived = new Float32Array(x.length);
  const target = bytesOfArray(arrived);
  return {
    fill: () => {
      fillInput(x, rank);
    },
    run: () =>
      Promise.all([
        host.recv(previous, ({ bytes, offset }) => {
          target.set(bytes, offset);
        }),
        host.send(next, bytesOfArray(x)),
      ]),
    wrong: () => countWrong(arrived, (i) => inputAt(i, previous)),
  };
}
