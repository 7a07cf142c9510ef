/** The operations of the benchmark on WebGPU buffers: recorded as in a model, replayed as in a step. */
import type { DeviceCommunicator } from "../../collectives/deviceCommunicator.ts";
import { chunkRange } from "../../collectives/schedules.ts";
import { roundUp } from "../../common/math.ts";
import type { Device, Tensor } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import type { Recorder } from "../../device/recorder.ts";
import { gatherRows } from "../../kernels/gatherRows.ts";
import { addPartials } from "../../kernels/sumResidualNorm.ts";
import type { BenchCase } from "./benchPlan.ts";
import { countWrong, fillInput, inputAt, sumAt } from "./expectedData.ts";
import type { PreparedCase } from "./hostOps.ts";

/** Columns of the all-reduce's matrix at most: as many as a large model's hidden size. */
const MAX_COLUMNS = 4096;
/** The kernel that makes the partial reads and writes quads. */
const QUAD = 4;

/** How one case is recorded, and what it should give. */
interface DeviceOp {
  readonly count: number;
  readonly rows: number;
  /** Appends the collective; returns the tensor with this rank's result, if it has one. */
  readonly record: (rec: Recorder) => Tensor | undefined;
  /** How many values of the result to compare, and with what. */
  readonly resultLength: number;
  readonly expected: (index: number) => number;
  /** Tensors that outlive the recording. */
  readonly tensors: readonly Tensor[];
  /** Appends the sum of what the all-reduce left to be summed; only where the result is read. */
  readonly finish?: (rec: Recorder) => Tensor;
}

/** Records and compiles; throws what the device has no memory for. */
export async function prepareDeviceCase(
  device: Device,
  comm: DeviceCommunicator,
  asked: BenchCase,
): Promise<PreparedCase> {
  const op = deviceOp(device, comm, asked);
  const live = liveRows(op.rows);
  const list = await device.finish(
    device.record((rec) => {
      op.record(rec);
    }),
  );
  const replay = (): Promise<void> => list.replay(live);
  return {
    count: op.count,
    sizeBytes: asked.op === "barrier" ? 0 : 4 * op.count,
    check: () => checkOnce(device, op),
    run: replay,
    destroy: () => {
      list.destroy();
      for (const tensor of op.tensors) device.free(tensor);
    },
  };
}

/** Runs a second recording, which ends in reading the result. */
async function checkOnce(device: Device, op: DeviceOp): Promise<number> {
  let wrong = 0;
  const record = (rec: Recorder): void => {
    const recorded = op.record(rec);
    const result = op.finish?.(rec) ?? recorded;
    if (result === undefined || op.resultLength === 0) return;
    rec.hostOp({
      label: "read",
      downloads: [result],
      downloadBytes: () => 4 * op.resultLength,
      run: async (io) => {
        const bytes = await io.download(0);
        const x = new Float32Array(bytes.buffer, bytes.byteOffset, op.resultLength);
        wrong = countWrong(x, op.expected);
      },
    });
  };
  await device.run(record, liveRows(op.rows));
  return wrong;
}

function deviceOp(device: Device, comm: DeviceCommunicator, asked: BenchCase): DeviceOp {
  const count = Math.floor(asked.sizeBytes / 4);
  switch (asked.op) {
    case "all_reduce":
      return allReduce(device, comm, count);
    case "reduce_scatter":
      return reduceScatter(device, comm, count);
    case "all_gather":
      return allGather(device, comm, count);
    case "broadcast":
      return broadcast(device, comm, count);
    case "gather":
      return gather(device, comm, count);
    case "all_to_all":
      return allToAll(device, comm, count);
    case "send_recv":
      return sendRecv(device, comm, count);
    case "barrier":
      return {
        ...{ count: 0, rows: 1, resultLength: 0, tensors: [], expected: () => 0 },
        record: (rec) => {
          comm.barrier(rec, "barrier");
          return undefined;
        },
      };
  }
}

/** This rank's input as a column: elements begin to begin + count. */
function input(device: Device, count: number, rank: number, begin = 0): Tensor {
  const x = new Float32Array(count);
  fillInput(x, rank, begin);
  return device.upload(x, [count, 1], "f32", "bench input");
}

/** A kernel makes the partial, as in a step; what is left to sum is left, as in a step. */
function allReduce(device: Device, comm: DeviceCommunicator, asked: number): DeviceOp {
  const { rank, worldSize } = comm;
  const columns = Math.min(MAX_COLUMNS, roundUp(asked, QUAD));
  const rows = Math.max(1, Math.floor(asked / columns));
  const count = rows * columns;
  const x = new Float32Array(count);
  fillInput(x, rank);
  const own = device.upload(x, [rows, columns], "f32", "bench input");
  const order = Uint32Array.from({ length: rows }, (_, row) => row);
  const indices = device.upload(order, [rows], "u32", "bench rows");
  const sum = device.empty([rows, columns], "f32", "bench sum");
  let reduction: ReturnType<DeviceCommunicator["allReduce"]> | undefined;
  return {
    ...{ count, rows, resultLength: count, tensors: [own, indices, sum] },
    expected: (i) => sumAt(i, worldSize),
    record: (rec) => {
      reduction = comm.allReduce(rec, "bench", [rows, columns], (out) => {
        gatherRows(rec, { x: own, indices, out });
      });
      return undefined;
    },
    finish: (rec) => {
      if (reduction !== undefined) addPartials(rec, { partials: reduction, residual: sum });
      return sum;
    },
  };
}

function reduceScatter(device: Device, comm: DeviceCommunicator, count: number): DeviceOp {
  const { begin, end } = chunkRange(count, comm.worldSize, comm.rank);
  const x = input(device, count, comm.rank);
  return {
    ...{ count, rows: count, tensors: [x], resultLength: end - begin },
    expected: (i) => sumAt(begin + i, comm.worldSize),
    record: (rec) => comm.reduceScatter(rec, "bench", x, () => count),
  };
}

/** Whose chunk an element of a gathered tensor lies in. */
function ownerOf(index: number, count: number, worldSize: number): number {
  for (let rank = 0; rank < worldSize; rank++) {
    if (index < chunkRange(count, worldSize, rank).end) return rank;
  }
  return worldSize - 1;
}

function allGather(device: Device, comm: DeviceCommunicator, count: number): DeviceOp {
  const { rank, worldSize } = comm;
  const { begin, end } = chunkRange(count, worldSize, rank);
  const own = input(device, end - begin, rank, begin);
  return {
    ...{ count, rows: count, tensors: [own], resultLength: count },
    expected: (i) => inputAt(i, ownerOf(i, count, worldSize)),
    record: (rec) => comm.allGather(rec, "bench", own, () => count, count),
  };
}

function broadcast(device: Device, comm: DeviceCommunicator, count: number): DeviceOp {
  const x = input(device, count, comm.rank);
  return {
    ...{ count, rows: count, tensors: [x], resultLength: count },
    expected: (i) => inputAt(i, 0),
    record: (rec) => {
      comm.broadcast(rec, "bench", x, 0, () => count);
      return x;
    },
  };
}

/** Parts of equal size: what the recorded gather moves. */
function gather(device: Device, comm: DeviceCommunicator, asked: number): DeviceOp {
  const { rank, worldSize } = comm;
  const part = Math.max(1, Math.floor(asked / worldSize));
  const count = part * worldSize;
  const own = input(device, part, rank, rank * part);
  const all = device.empty([worldSize, part], "f32", "bench gathered");
  const isRoot = rank === 0;
  return {
    ...{ count, rows: part, tensors: [own, all], resultLength: isRoot ? count : 0 },
    expected: (i) => inputAt(i, Math.floor(i / part)),
    record: (rec) => {
      comm.gather(rec, "bench", own, 0, () => part, isRoot ? all : undefined);
      return isRoot ? all : undefined;
    },
  };
}

function allToAll(device: Device, comm: DeviceCommunicator, count: number): DeviceOp {
  const { rank, worldSize } = comm;
  const x = input(device, count, rank);
  const lengthOf = (to: number): number => {
    const { begin, end } = chunkRange(count, worldSize, to);
    return end - begin;
  };
  const counts = Uint32Array.from({ length: worldSize }, (_, to) => lengthOf(to));
  const sendRows = device.upload(counts, [worldSize], "u32", "bench rows to send");
  const { begin } = chunkRange(count, worldSize, rank);
  const part = Math.max(1, lengthOf(rank));
  return {
    ...{ count, rows: count, tensors: [x, sendRows] },
    resultLength: worldSize * lengthOf(rank),
    expected: (i) => inputAt(begin + (i % part), Math.floor(i / part)),
    record: (rec) => comm.allToAll(rec, "bench", { x, sendRows, maxRows: worldSize * part }).out,
  };
}

/** Odd ranks receive first: the operations of a recording run one after the other. */
function sendRecv(device: Device, comm: DeviceCommunicator, count: number): DeviceOp {
  const { rank, worldSize } = comm;
  const [next, previous] = [(rank + 1) % worldSize, (rank + worldSize - 1) % worldSize];
  const x = input(device, count, rank);
  const arrived = device.empty([count, 1], "f32", "bench arrived");
  const send = (rec: Recorder): void => {
    comm.send(rec, "bench", x, next);
  };
  const recv = (rec: Recorder): void => {
    comm.recv(rec, "bench", arrived, previous);
  };
  return {
    ...{ count, rows: count, tensors: [x, arrived], resultLength: count },
    expected: (i) => inputAt(i, previous),
    record: (rec) => {
      for (const step of rank % 2 === 0 ? [send, recv] : [recv, send]) step(rec);
      return arrived;
    },
  };
}
