/** Dtype conversion: of uploaded weights, and of rows that travel; shaders/convert.wgsl, convert_rows.wgsl. */
import type { DType } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { type AdapterInfo, expectDType, type Tensor } from "../device/device.ts";
import type { LaunchCounts } from "../device/liveCounts.ts";
import { defineKernel, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

export interface ConvertArgs {
  readonly from: Tensor; // f32, f16 or bf16; an even number of elements
  readonly to: Tensor; // as many elements, of another of these dtypes
}

/** The constants of shaders/lib/narrow_to.wgsl. */
export const FLOAT_CODES: Readonly<Partial<Record<DType, number>>> = { f32: 0, f16: 1, bf16: 2 };

const PAIR_SOURCES = [
  "lib/float_bits.wgsl",
  "lib/narrow_to.wgsl",
  "lib/convert_pair.wgsl",
] as const;

type Dtypes = Pick<ConvertArgs, "from" | "to">;

function pairOverrides({ from, to }: Dtypes, adapter: AdapterInfo): Record<string, number> {
  return {
    WG_SIZE: workgroupSize(adapter, 64),
    FROM: FLOAT_CODES[from.dtype] ?? 0,
    TO: FLOAT_CODES[to.dtype] ?? 0,
  };
}

function checkDTypes({ from, to }: Dtypes): void {
  expectDType("from", from, ["f32", "f16", "bf16"]);
  expectDType("to", to, ["f32", "f16", "bf16"]);
  if (from.dtype === to.dtype) throw new ShapeError(`to: expected another dtype than ${to.dtype}`);
}

/** Rounds to nearest, ties to even; one launch over the whole tensor. */
export const convert: Kernel<ConvertArgs> = defineKernel<ConvertArgs>({
  name: ({ from, to }) => `convert ${from.dtype} to ${to.dtype}`,
  sources: [...PAIR_SOURCES, "convert.wgsl"],
  overrides: pairOverrides,
  launch: ({ from, to }, adapter) => {
    checkDTypes({ from, to });
    if (from.numElements % 2 !== 0 || from.numElements !== to.numElements) {
      throw new ShapeError(
        `to: expected as many elements as from, and an even number, got ${to.numElements} and ${from.numElements}`,
      );
    }
    const numPairs = from.numElements / 2;
    return {
      params: pack(u32(numPairs)),
      inputs: [from],
      outputs: [to],
      workgroups: spread(ceilDiv(numPairs, workgroupSize(adapter, 64)), adapter),
    };
  },
});

export interface ConvertRowsArgs {
  readonly from: Tensor; // parts of [rows, columns], fromStride elements apart; f32, f16 or bf16
  readonly to: Tensor; // as many parts, toStride elements apart, of another of these dtypes
  readonly columns: number; // even
  /** 1 unless given; strides count only with more. */
  readonly numParts?: number;
  readonly fromStride?: number; // even, as toStride
  readonly toStride?: number;
  /** Live rows of each part; rows past them stay as they are. */
  readonly rows: (live: LaunchCounts) => number;
}

/** Rounds to nearest, ties to even; one launch over the live rows of all parts. */
export const convertRows: Kernel<ConvertRowsArgs> = defineKernel<ConvertRowsArgs>({
  name: ({ from, to }) => `convert rows ${from.dtype} to ${to.dtype}`,
  sources: [...PAIR_SOURCES, "convert_rows.wgsl"],
  overrides: pairOverrides,
  launch: (args, adapter) => {
    const { columns, numParts = 1, fromStride = 0, toStride = 0, rows } = args;
    checkDTypes(args);
    if ([columns, fromStride, toStride].some((size) => size % 2 !== 0)) {
      throw new ShapeError(
        `columns, fromStride, toStride: expected even numbers, got ${columns}, ${fromStride}, ${toStride}`,
      );
    }
    const x = ceilDiv(columns / 2, workgroupSize(adapter, 64));
    return {
      params: pack(u32(columns / 2), u32(fromStride / 2), u32(toStride / 2)),
      inputs: [args.from],
      outputs: [args.to],
      workgroups: (live) => [x, rows(live), numParts],
    };
  },
});
