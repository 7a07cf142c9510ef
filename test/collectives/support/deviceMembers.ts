/** A rank whose data lies on a GPU: each call uploads, records the collective, replays it and reads back. */
import { DeviceCommunicator } from "../../../src/collectives/deviceCommunicator.ts";
import type { HostCommunicator } from "../../../src/collectives/hostCommunicator.ts";
import { bytesOfArray } from "../../../src/collectives/floats.ts";
import { isTensor, type TensorDict } from "../../../src/collectives/tensorDict.ts";
import type { DeviceDict } from "../../../src/collectives/deviceTensorDict.ts";
import { chunkRange } from "../../../src/collectives/schedules.ts";
import { type Device, Tensor } from "../../../src/device/device.ts";
import { roundUp } from "../../../src/common/math.ts";
import { liveRows } from "../../../src/device/liveCounts.ts";
import type { Recorder } from "../../../src/device/recorder.ts";
import { addPartials } from "../../../src/kernels/sumResidualNorm.ts";
import type { Member } from "./members.ts";

const SPARE_ROWS = 2; // capacity beyond the live rows, as in a recorded step

export function deviceMember(device: Device, host: HostCommunicator): Member {
  const comm = new DeviceCommunicator(host);
  const { rank, worldSize } = host;

  /** Records with capacity for more rows, replays with `rows` live ones, reads the tensor's first `length` values. */
  async function run(
    rows: number,
    record: (rec: Recorder) => Tensor | undefined,
    length: number,
  ): Promise<Float32Array> {
    let result: Float32Array = new Float32Array(0);
    await device.run((rec) => {
      const out = record(rec);
      if (out === undefined || length === 0) return;
      rec.hostOp({
        label: "read",
        downloads: [out],
        downloadBytes: () => 4 * length,
        run: async (io) => {
          result = new Float32Array((await io.download(0)).slice().buffer);
        },
      });
    }, liveRows(rows));
    return result;
  }
  const upload = (x: Float32Array, columns: number, spareRows = SPARE_ROWS): Tensor => {
    const padded = new Float32Array(x.length + spareRows * columns);
    padded.set(x);
    return device.upload(padded, [padded.length / columns, columns]);
  };
  const rowsOf = (x: Float32Array, columns: number): number => x.length / columns;

  return {
    rank,
    worldSize,
    transport: host.group.transport,
    allReduce: async (values, numColumns) => {
      const rows = rowsOf(values, numColumns);
      const columns = roundUp(numColumns, 4); // what the kernel that adds partials asks for
      const x = repack(values, numColumns, columns);
      const [own, sum] = [upload(x, columns), upload(new Float32Array(x.length), columns)];
      const record = (rec: Recorder): Tensor => {
        const shape: [number, number] = [rows + SPARE_ROWS, columns];
        const partials = comm.allReduce(rec, "x", shape, (partial) => {
          const source = { tensor: own, count: 1, strideElements: own.numElements };
          addPartials(rec, { partials: source, residual: partial });
        });
        addPartials(rec, { partials, residual: sum });
        return sum;
      };
      return repack(await run(rows, record, x.length), columns, numColumns);
    },
    reduceScatter: (x, columns) => {
      const rows = rowsOf(x, columns);
      const { begin, end } = chunkRange(rows, worldSize, rank);
      const own = upload(x, columns);
      return run(
        rows,
        (rec) => comm.reduceScatter(rec, "x", own, () => rows),
        (end - begin) * columns,
      );
    },
    allGather: (chunk, columns, rows) => {
      const own = upload(chunk, columns);
      const record = (rec: Recorder): Tensor =>
        comm.allGather(rec, "x", own, () => rows, rows + SPARE_ROWS);
      return run(rows, record, rows * columns);
    },
    broadcast: (x, root) => {
      const tensor = upload(x, 1);
      const record = (rec: Recorder): Tensor => {
        comm.broadcast(rec, "x", tensor, root, () => x.length);
        return tensor;
      };
      return run(x.length, record, x.length);
    },
    gather: async (x, root) => {
      if (x.length === 0) return rank === root ? Array<Float32Array>(worldSize).fill(x) : undefined;
      const own = upload(x, 1, 0);
      const out = device.empty([worldSize, x.length]);
      const all = await run(
        x.length,
        (rec) => {
          comm.gather(rec, "x", own, root, () => x.length, rank === root ? out : undefined);
          return out;
        },
        worldSize * x.length,
      );
      if (rank !== root) return undefined;
      return Array.from({ length: worldSize }, (_, r) =>
        all.slice(r * x.length, (r + 1) * x.length),
      );
    },
    allToAll: async (parts, columns) => {
      const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      let offset = 0;
      for (const part of parts) {
        joined.set(part, offset);
        offset += part.length;
      }
      const x = upload(joined, columns);
      const counts = Uint32Array.from(parts, (part) => part.length / columns);
      const sendRows = device.upload(counts, [worldSize], "u32");
      const maxRows = 64;
      const capacity = worldSize === 1 ? x.numElements : maxRows * columns;
      let recvRows: Tensor | undefined;
      const record = (rec: Recorder): Tensor => {
        const result = comm.allToAll(rec, "x", { x, sendRows, maxRows });
        recvRows = result.recvRows;
        rec.hostOp({
          label: "read rows",
          downloads: [recvRows],
          downloadBytes: () => 4 * worldSize,
          run: async (io) => {
            counts.set(new Uint32Array((await io.download(0)).slice().buffer));
          },
        });
        return result.out;
      };
      const all = await run(1, record, capacity);
      let begin = 0;
      return Array.from(counts, (rows) => {
        const part = all.slice(begin, begin + rows * columns);
        begin += part.length;
        return part;
      });
    },
    send: async (x, to) => {
      const tensor = upload(x, 1);
      await run(
        x.length,
        (rec) => {
          comm.send(rec, "x", tensor, to);
          return undefined;
        },
        0,
      );
    },
    recv: (length, from) => {
      const tensor = upload(new Float32Array(length), 1);
      const record = (rec: Recorder): Tensor => {
        comm.recv(rec, "x", tensor, from);
        return tensor;
      };
      return run(length, record, length);
    },
    sendTensorDict: (dict, to) => comm.sendTensorDict(device, to, uploadAll(device, dict)),
    recvTensorDict: async (from) => readAll(device, await comm.recvTensorDict(device, from)),
    barrier: async () => {
      await run(
        1,
        (rec) => {
          comm.barrier(rec, "x");
          return undefined;
        },
        0,
      );
    },
  };
}

/** The same rows with more columns, zeros, or with fewer. */
function repack(x: Float32Array, from: number, to: number): Float32Array {
  const rows = x.length / from;
  return Float32Array.from({ length: rows * to }, (_, i) => {
    const [row, column] = [Math.floor(i / to), i % to];
    return column < from ? (x[row * from + column] ?? 0) : 0;
  });
}

function uploadAll(device: Device, dict: TensorDict): DeviceDict {
  const entries = Object.entries(dict).map(([name, value]): [string, DeviceDict[string]] => {
    if (!isTensor(value)) return [name, value];
    const { shape, data, dtype = "f32" } = value;
    const tensor = device.empty(shape, dtype, name);
    if (data.length > 0) device.write(tensor, bytesOfArray(data));
    return [name, tensor];
  });
  return Object.fromEntries(entries);
}

async function readAll(device: Device, dict: DeviceDict): Promise<TensorDict> {
  const VIEWS = {
    f32: Float32Array,
    u32: Uint32Array,
    i32: Int32Array,
    bf16: Uint16Array,
    f16: Float16Array,
  };
  const entries = Object.entries(dict).map(
    async ([name, value]): Promise<[string, TensorDict[string]]> => {
      if (!(value instanceof Tensor)) return [name, value];
      const bytes = await device.readBytes(value);
      const data = new VIEWS[value.dtype](bytes, 0, value.numElements);
      return [name, { shape: value.shape, data, dtype: value.dtype }];
    },
  );
  return Object.fromEntries(await Promise.all(entries));
}
