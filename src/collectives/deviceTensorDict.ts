/** Tensor dicts of a device: read into host memory before they are sent, uploaded as they arrive. */
import type { DType } from "../common/dtype.ts";
import { CollectiveError } from "../common/errors.ts";
import { product } from "../common/math.ts";
import { type Device, Tensor } from "../device/device.ts";
import { bytesOfArray } from "./floats.ts";
import {
  type HostTensor,
  isTensor,
  type PlainValue,
  type TensorData,
  type TensorDict,
} from "./tensorDict.ts";

/** Named tensors of one device, and plain values. */
export type DeviceDict = Readonly<Record<string, Tensor | PlainValue>>;

const VIEW_OF = {
  f32: Float32Array,
  f16: Float16Array,
  bf16: Uint16Array,
  u32: Uint32Array,
  i32: Int32Array,
} as const satisfies Record<DType, unknown>;

export async function downloadDict(device: Device, dict: DeviceDict): Promise<TensorDict> {
  const values = await Promise.all(
    Object.entries(dict).map(async ([name, value]): Promise<[string, HostTensor | PlainValue]> => {
      if (!(value instanceof Tensor)) return [name, value];
      const bytes = await device.readBytes(value); // whole u32: may be longer by an f16
      const data: TensorData = new VIEW_OF[value.dtype](bytes, 0, product(value.shape));
      return [name, { shape: value.shape, data, dtype: value.dtype }];
    }),
  );
  return Object.fromEntries(values);
}

export function uploadDict(device: Device, dict: TensorDict): DeviceDict {
  const values = Object.entries(dict).map(([name, value]): [string, Tensor | PlainValue] => {
    if (!isTensor(value)) return [name, value];
    const dtype = value.dtype ?? dtypeOf(value.data);
    const tensor = device.empty(value.shape, dtype, name);
    if (value.data.length > 0) device.write(tensor, bytesOfArray(value.data));
    return [name, tensor];
  });
  return Object.fromEntries(values);
}

/** For tensors that a host sent: the dtype that its view has. */
function dtypeOf(data: TensorData): DType {
  const found = Object.entries(VIEW_OF).find(([, View]) => data instanceof View);
  if (found !== undefined) return found[0] as DType;
  throw new CollectiveError(
    `tensor dict: expected elements of 16 or 32 bits for a device, got ${data.BYTES_PER_ELEMENT * 8}`,
  );
}
