/**
 * Narrower sums between devices: a kernel rounds what travels and another widens what has arrived, so
 * that the host only copies, and half as much. Every rank, the sender too, goes on with the rounded values.
 */
import { bytesOf } from "../common/dtype.ts";
import { roundUp } from "../common/math.ts";
import type { Tensor } from "../device/device.ts";
import type { Recorder } from "../device/recorder.ts";
import { OFFSET_ALIGNMENT } from "../device/tensor.ts";
import { convertRows } from "../kernels/convert.ts";
import type { LiveRows, Reduction } from "./communicator.ts";
import type { WireFormat } from "./wire.ts";

/** What devices make themselves; q8 is made on the host. */
export type DeviceWire = Exclude<WireFormat, "q8">;

/** Whether devices can send rows of so many columns in this format: kernels take pairs. */
export function isDeviceWire(wire: WireFormat, columns: number): wire is DeviceWire {
  return wire === "f32" || (wire !== "q8" && columns % 2 === 0);
}

/** Room for the parts of all ranks, [rows, columns] each, in the wire's dtype; each starts where a binding may. */
export function allocParts(
  rec: Recorder,
  label: string,
  [count, rows, columns]: readonly [count: number, rows: number, columns: number],
  dtype: DeviceWire,
): Reduction {
  const elementBytes = bytesOf(dtype);
  const strideBytes = roundUp(rows * columns * elementBytes, OFFSET_ALIGNMENT);
  const strideElements = strideBytes / elementBytes;
  return { tensor: rec.alloc(label, [count, strideElements], dtype), count, strideElements };
}

/** x as it travels: itself, or its live rows rounded into `into` or a tensor of their own. */
export function narrowed(
  rec: Recorder,
  label: string,
  x: Tensor, // [capacity, columns] f32
  wire: DeviceWire,
  rows: LiveRows,
  into?: Tensor, // as x, of the wire's dtype
): Tensor {
  if (wire === "f32") return x;
  const [, columns = 1] = x.shape;
  const to = into ?? rec.alloc(`${label} ${wire}`, x.shape, wire);
  convertRows(rec, { from: x, to, columns, rows });
  return to;
}

/** What has arrived as f32: itself, or its live rows widened. */
export function widened(
  rec: Recorder,
  label: string,
  parts: Reduction,
  [maxRows, columns]: readonly [rows: number, columns: number],
  rows: LiveRows,
): Reduction {
  const { tensor, count, strideElements: fromStride } = parts;
  if (tensor.dtype === "f32") return parts;
  const wide = allocParts(rec, label, [count, maxRows, columns], "f32");
  const strides = { fromStride, toStride: wide.strideElements };
  convertRows(rec, { from: tensor, to: wide.tensor, columns, numParts: count, ...strides, rows });
  return wide;
}
