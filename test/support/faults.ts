/** Faults to plant in a running model, to see them found. */
import type { Communicator } from "../../src/collectives/communicator.ts";
import type { RankHooks } from "../../src/runtime/worker.ts";
import { type Range, readPacked, type WeightSource } from "../../models/weights/weightSource.ts";

/** `inner` with some of its methods replaced. (A proxy, as private fields rule out inheritance.) */
export function override<T extends object>(inner: T, replaced: Partial<T>): T {
  return new Proxy(inner, {
    get: (target, key) => {
      const from = Object.hasOwn(replaced, key) ? replaced : target;
      const value: unknown = Reflect.get(from, key, from);
      return typeof value === "function" ? (value as () => unknown).bind(target) : value;
    },
  });
}

/** One rank reads the rows of a weight from `offset` rows further up than it should. */
export function shiftedRows(faultyRank: number, weight: string, offset: number): RankHooks {
  const shift = ({ begin, end }: Range): Range =>
    begin < offset ? { begin, end } : { begin: begin - offset, end: end - offset };
  return weightFault(faultyRank, weight, (source) => (name, slice, onChunk) => {
    const rows = slice.rows === undefined ? {} : { rows: shift(slice.rows) };
    return source.readSlice(name, { ...slice, ...rows }, onChunk);
  });
}

/** On one rank the two halves of a weight's rows change places: two KV heads, where it has two. */
export function swappedHalves(faultyRank: number, weight: string): RankHooks {
  return weightFault(faultyRank, weight, (source) => async (name, slice, onChunk) => {
    const packed = await readPacked(source, name, slice);
    const half = packed.byteLength / 2;
    const bytes = new Uint8Array(packed.byteLength);
    bytes.set(packed.subarray(half));
    bytes.set(packed.subarray(0, half), half);
    await onChunk({ offset: 0, bytes });
  });
}

/** Ranks that take part in an all-reduce and go on with their own partial alone. */
export function skippedAllReduce(faultyRanks: readonly number[], label: string): RankHooks {
  return {
    tp: (tp, rank) =>
      override(tp, {
        allReduce: (rec, name, shape, produce) => {
          const sum = tp.allReduce(rec, name, shape, produce);
          if (name !== label || !faultyRanks.includes(rank)) return sum;
          const own = sum.tensor.view([...shape], tp.rank * sum.strideElements);
          return { tensor: own, count: 1, strideElements: own.numElements };
        },
      }),
  };
}

/** A stage whose residual loses its first element on the way. */
export function corruptedHop(faultyRank: number): RankHooks {
  return {
    pp: (pp, rank) => (rank === faultyRank ? override(pp, { recv: corrupting(pp) }) : pp),
  };
}

function corrupting(pp: Communicator): Communicator["recv"] {
  return (rec, label, out, from) => {
    pp.recv(rec, label, out, from);
    rec.hostOp({
      label: "corrupt",
      uploads: [out],
      run: (io) => {
        io.upload(out, new Uint8Array(4));
        return Promise.resolve();
      },
    });
  };
}

function weightFault(
  faultyRank: number,
  weight: string,
  faulty: (source: WeightSource) => WeightSource["readSlice"],
): RankHooks {
  return {
    weights: (source, rank) => {
      if (rank !== faultyRank) return source;
      const readFaulty = faulty(source);
      return override(source, {
        sliceReads: undefined, // all goes through readSlice
        readSlice: (name, slice, onChunk) =>
          name === weight
            ? readFaulty(name, slice, onChunk)
            : source.readSlice(name, slice, onChunk),
      });
    },
  };
}
