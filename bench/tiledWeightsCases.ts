/** The kernels that tiledWeights.ts compares: those in use first, then variants over tiles. */
import { ceilDiv } from "../src/common/math.ts";
import type { Device, Tensor } from "../src/device/device.ts";
import type { Recorder } from "../src/device/recorder.ts";
import { defineKernel, type Kernel, pack, spread, u32 } from "../src/kernels/kernel.ts";
import { linear, type LinearWeight } from "../src/kernels/linear.ts";
import {
  halvesRows,
  hasMatrixKernel,
  linearSplit,
  MATRIX_PRELUDE,
  splitsOf,
} from "../src/kernels/linearMatrix.ts";
import { GEMM_TILES } from "./gemmTiles.ts";
import type { CaseMemory } from "../src/runtime/bench/kernelCase.ts";

const TILE = 16;
const FOLDER = "../bench/shaders";
const WG_SIZE = 256;

/** One kernel at one shape. */
export interface Case {
  readonly name: string;
  readonly tokens: number;
  readonly isTiled: boolean;
  readonly out: Tensor; // [splits * tokens, rows]
  /** Parts of k whose sums are still to be added. */
  readonly splits: number;
  readonly record: (rec: Recorder, weight: Tensor) => void;
}

/** weight [rows, columns] f16 -> out, the same as tiles. */
export const toTiles: Kernel<{ weight: Tensor; out: Tensor }> = defineKernel({
  name: "to_tiles",
  sources: [`${FOLDER}/to_tiles.wgsl`],
  overrides: () => ({ WG_SIZE }),
  launch: ({ weight, out }, adapter) => {
    const [numRows = 0, columns = 0] = weight.shape;
    return {
      params: pack(u32(numRows), u32(columns / 8)),
      inputs: [weight],
      outputs: [out],
      workgroups: spread(ceilDiv((numRows * columns) / 8, WG_SIZE), adapter),
    };
  },
});

interface TiledArgs {
  readonly x: Tensor;
  readonly weight: Tensor; // [rows, columns] as tiles
  readonly out: Tensor;
}

/** Fields and tensors that all kernels over tiles but the GEMV have. */
function bindings({ x, weight, out }: TiledArgs): {
  params: Uint8Array;
  inputs: Tensor[];
  outputs: Tensor[];
} {
  const [rows = 0, columns = 0] = weight.shape;
  const params = pack(u32(rows / TILE), u32(columns / TILE));
  return { params, inputs: [x, weight], outputs: [out] };
}

interface GemvArgs extends TiledArgs {
  readonly lanes: number;
  readonly rowTiles: number;
}

export const gemvTiles: Kernel<GemvArgs> = defineKernel<GemvArgs>({
  name: "gemv_tiles",
  sources: [`${FOLDER}/gemv_tiles.wgsl`],
  prelude: ({ rowTiles }) => `const ROW_TILES = ${rowTiles}u;`,
  overrides: ({ lanes }) => ({ WG_SIZE: lanes }),
  launch: ({ x, weight, out, rowTiles }) => {
    const [rows = 0, columns = 0] = weight.shape;
    return {
      params: pack(u32(columns / TILE)),
      inputs: [x, weight],
      outputs: [out],
      workgroups: [rows / TILE / rowTiles, 1, 1],
    };
  },
});

export interface FewArgs extends TiledArgs {
  readonly subgroups: number;
  readonly rowTiles: 1 | 2;
  readonly slice: number;
  readonly splits: number;
}

export const fewTiles: Kernel<FewArgs> = defineKernel<FewArgs>({
  name: "few_tiles",
  sources: [`${FOLDER}/few_tiles.wgsl`],
  prelude: ({ subgroups, rowTiles, slice, splits }) =>
    `${MATRIX_PRELUDE}
const SUBGROUPS = ${subgroups}u;
const ROW_TILES = ${rowTiles}u;
const SLICE = ${slice}u;
const SPLITS = ${splits}u;`,
  launch: (args) => {
    const [rows = 0] = args.weight.shape;
    const workgroups = ceilDiv(rows / TILE / args.rowTiles, args.subgroups);
    return { ...bindings(args), workgroups: [workgroups, 1, args.splits] };
  },
});

export const gemmTiles: Kernel<TiledArgs> = defineKernel<TiledArgs>({
  name: "gemm_tiles",
  sources: [],
  prelude: () => `${MATRIX_PRELUDE}\n${GEMM_TILES}`,
  launch: (args) => {
    const [tokens = 0] = args.x.shape;
    const [rows = 0] = args.weight.shape;
    return { ...bindings(args), workgroups: [tokens / 128, rows / 256, 1] };
  },
});

/** Groups of cases that compute the same; the first of each is the kernel in use. */
export async function casesOf(
  memory: CaseMemory,
  shape: readonly [number, number],
  only?: string,
  promptTokens = PROMPT_TOKENS,
): Promise<Case[][]> {
  const hasMatrices = hasMatrixKernel(memory.device.info);
  const wanted = (kind: string): boolean => only === undefined || only === kind;
  return [
    ...(wanted("gemv") ? [await gemvCases(memory, shape)] : []),
    ...(wanted("few") && hasMatrices ? [await fewCases(memory, shape)] : []),
    ...(wanted("gemm") && hasMatrices ? [await gemmCases(memory, shape, promptTokens)] : []),
  ];
}

function asLinear(weight: Tensor): LinearWeight {
  const [outFeatures = 0, inFeatures = 0] = weight.shape;
  return { parts: [{ tensor: weight, outOffset: 0 }], outFeatures, inFeatures };
}

async function gemvCases(
  memory: CaseMemory,
  [rows, columns]: readonly [number, number],
): Promise<Case[]> {
  const x = await memory.filled([1, columns]);
  const out = memory.empty([1, rows]);
  const base = { tokens: 1, out, splits: 1 };
  const inUse: Case = {
    ...base,
    name: "gemv, rows",
    isTiled: false,
    record: (rec, weight) => {
      linear(rec, { x, weight: asLinear(weight), out, rows: "tokens" });
    },
  };
  const variants = [64, 128, 256].flatMap((lanes) =>
    [1, 2, 4].map((rowTiles): Case => ({
      ...base,
      name: `gemv, tiles, ${lanes} lanes, ${16 * rowTiles} rows`,
      isTiled: true,
      record: (rec, weight) => {
        gemvTiles(rec, { x, weight, out, lanes, rowTiles });
      },
    })),
  );
  return [inUse, ...variants];
}

const FEW_TOKENS = 32;

async function fewCases(
  memory: CaseMemory,
  [rows, columns]: readonly [number, number],
): Promise<Case[]> {
  const x = await memory.filled([halvesRows(FEW_TOKENS), columns], "f16");
  const inUse = fewInUse(memory, x, rows, columns);
  const variants: Case[] = [];
  for (const splits of [1, 2, 4, 8]) {
    const out = memory.empty([splits * FEW_TOKENS, rows]);
    for (const subgroups of [1, 2, 4, 8]) {
      for (const rowTiles of [1, 2] as const) {
        for (const slice of [8, 16]) {
          const numWorkgroups = (splits * rows) / TILE / rowTiles / subgroups;
          if (numWorkgroups < 100 || numWorkgroups > 8000 || columns / TILE / slice < splits)
            continue;
          const sizes = { subgroups, rowTiles, slice, splits };
          variants.push({
            name: `few, tiles, ${subgroups} x ${16 * rowTiles} rows, ${16 * slice} of k, ${splits} parts`,
            tokens: FEW_TOKENS,
            isTiled: true,
            out,
            splits,
            record: (rec, weight) => {
              fewTiles(rec, { x, weight, out, ...sizes });
            },
          });
        }
      }
    }
  }
  return [inUse, ...variants];
}

function fewInUse(memory: CaseMemory, x: Tensor, rows: number, columns: number): Case {
  const shape = { weight: { parts: [], outFeatures: rows, inFeatures: columns }, hasBias: false };
  const splits = splitsOf(memory.device.info, { ...shape, capacity: FEW_TOKENS });
  const out = memory.empty([splits * FEW_TOKENS, rows]);
  return {
    name: `few, rows, ${splits} parts`,
    tokens: FEW_TOKENS,
    isTiled: false,
    out,
    splits,
    record: (rec, weight) => {
      const args = { x, weight: asLinear(weight), out, rows: "tokens" } as const;
      if (splits > 1) linearSplit(rec, args, splits);
      else linear(rec, args);
    },
  };
}

const PROMPT_TOKENS = 2048;

async function gemmCases(
  memory: CaseMemory,
  [rows, columns]: readonly [number, number],
  tokens: number,
): Promise<Case[]> {
  const x = await memory.filled([tokens, columns], "f16");
  const out = memory.empty([tokens, rows]);
  const base = { tokens, out, splits: 1 };
  const inUse: Case = {
    ...base,
    name: "gemm, rows",
    isTiled: false,
    record: (rec, weight) => {
      linear(rec, { x, weight: asLinear(weight), out, rows: "tokens" });
    },
  };
  const tiled: Case = {
    ...base,
    name: "gemm, tiles",
    isTiled: true,
    record: (rec, weight) => {
      gemmTiles(rec, { x, weight, out });
    },
  };
  return [inUse, tiled];
}

/** For tests: compiles every variant of the matrix kernels, without running them. */
export function recordMatrixVariants(device: Device, rec: Recorder): void {
  const x = device.empty([128, 256], "f16");
  const weight = device.empty([128, 256], "f16");
  const out = device.empty([256, 128]);
  for (const rowTiles of [1, 2] as const) {
    fewTiles(rec, { x, weight, out, subgroups: 4, rowTiles, slice: 8, splits: 2 });
  }
  const wide = device.empty([256, 256], "f16");
  gemmTiles(rec, { x, weight: wide, out });
}
