/** A layout of two virtual ranks, as the runtime reports it. */
import type { LayoutReport } from "../../../src/runtime/engineArgs.ts";

export const twoRanks: LayoutReport = {
  tpSize: 2,
  ppSize: 1,
  executor: "inProcess",
  model: "models/tiny",
  dtype: "bf16",
  kvCacheDType: "f16",
  maxModelLen: 64,
  ranks: [0, 1].map((rank) => ({
    rank,
    tpRank: rank,
    ppRank: 0,
    deviceIndex: 0,
    deviceName: "Toy GPU",
    isVirtual: true,
    layers: { begin: 0, end: 6 },
    heads: { begin: 4 * rank, end: 4 * rank + 4 },
    kvHeads: { begin: rank, end: rank + 1 },
    vocab: { begin: 16 * rank, end: 16 * rank + 16 },
    weightBytes: 5_430_000,
  })),
};
