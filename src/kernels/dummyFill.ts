/** Dummy weights made on the device; the shader is shaders/dummy_fill.wgsl. */
import { bytesOf } from "../common/dtype.ts";
import { ShapeError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";
import { expectDType, type Tensor } from "../device/device.ts";
import { FLOAT_CODES } from "./convert.ts";
import { defineKernel, f32, type Kernel, pack, spread, u32, workgroupSize } from "./kernel.ts";

/** Fills a slice of a weight with the values that models/weights/dummy.ts gives it. */
export interface DummyFillArgs {
  readonly out: Tensor; // [rows, columns] or [columns]; f32, f16 or bf16
  /** Hash of the weight's name: dummy.ts fnv1a32. */
  readonly seed: number;
  /** dummy.ts dummyScale; "norm" for norm weights, whose values lie around 1. */
  readonly scale: number | "norm";
  /** Where the slice begins in the whole tensor; a 1-D tensor is one row. */
  readonly firstRow: number;
  readonly firstColumn: number;
  /** Columns of the slice; out's further ones become zero. */
  readonly numColumns: number;
  /** Rows to write, from outRow on: all of them when left out. */
  readonly outRow?: number;
  readonly numRows?: number;
}

/** One launch. Rows outside outRow to outRow + numRows are not touched. */
export const dummyFill: Kernel<DummyFillArgs> = defineKernel<DummyFillArgs>({
  name: "dummy_fill",
  sources: ["lib/float_bits.wgsl", "lib/narrow_to.wgsl", "dummy_fill.wgsl"],
  overrides: ({ out }, adapter) => ({
    WG_SIZE: workgroupSize(adapter, 64),
    TO: FLOAT_CODES[out.dtype] ?? 0,
  }),
  launch: (args, adapter) => {
    const { out, seed, scale, firstRow, firstColumn, numColumns } = args;
    const { outRow, numRows, columns } = checkRows(args);
    const wordsPerRow = ceilDiv(columns * bytesOf(out.dtype), 4);
    const numWords = numRows * wordsPerRow;
    return {
      params: pack(
        u32(seed),
        u32(firstRow),
        u32(firstColumn),
        u32(numColumns),
        u32(outRow),
        u32(wordsPerRow),
        u32(numWords),
        u32(scale === "norm" ? 1 : 0),
        f32(scale === "norm" ? 1 : scale),
      ),
      inputs: [],
      outputs: [out],
      workgroups: spread(ceilDiv(numWords, workgroupSize(adapter, 64)), adapter),
    };
  },
});

function checkRows(args: DummyFillArgs): { outRow: number; numRows: number; columns: number } {
  const { out, numColumns, outRow = 0 } = args;
  expectDType("out", out, ["f32", "f16", "bf16"]);
  const columns = out.shape.at(-1) ?? 0;
  const outRows = out.shape.length === 1 ? 1 : (out.shape[0] ?? 0);
  const numRows = args.numRows ?? outRows - outRow;
  if (outRow + numRows > outRows || numColumns > columns) {
    throw new ShapeError(
      `out: expected room for rows ${outRow} to ${outRow + numRows} of ${numColumns} columns, got [${out.shape.join(", ")}]`,
    );
  }
  if (outRows > 1 && (columns * bytesOf(out.dtype)) % 4 !== 0) {
    throw new ShapeError(`out: expected rows of whole u32, got ${columns} ${out.dtype}`);
  }
  return { outRow, numRows, columns };
}
