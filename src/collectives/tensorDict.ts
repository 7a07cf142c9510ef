/**
 * Named tensors and plain values from one rank to another, whose shapes the receiver need not know:
 * what a pipeline stage hands on. First a header in JSON, then the bytes of each tensor.
 */
import type { DType } from "../common/dtype.ts";
import { CollectiveError, messageOf } from "../common/errors.ts";
import { bytesOfArray } from "./floats.ts";
import type { Operation } from "./operation.ts";

export type TensorData =
  Float32Array | Float16Array | Uint32Array | Int32Array | Uint16Array | Int8Array | Uint8Array;

/** A tensor in host memory: `data` has as many elements as the product of `shape`. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: TensorData;
  /** What the elements mean, where the view does not say it: bf16 as Uint16Array. */
  readonly dtype?: DType | undefined;
}

/** What JSON can hold. */
export type PlainValue =
  string | number | boolean | null | readonly PlainValue[] | { readonly [key: string]: PlainValue };

/** Values with a `data` view are tensors, all others are plain metadata. */
export type TensorDict = Readonly<Record<string, HostTensor | PlainValue>>;

const VIEWS = {
  f32: Float32Array,
  f16: Float16Array,
  u32: Uint32Array,
  i32: Int32Array,
  u16: Uint16Array,
  i8: Int8Array,
  u8: Uint8Array,
} as const;
type ViewName = keyof typeof VIEWS;

interface TensorHeader {
  readonly name: string;
  readonly view: ViewName;
  readonly dtype?: DType | undefined;
  readonly shape: readonly number[];
}

interface DictHeader {
  readonly names: readonly string[]; // the order of the sender's dict
  readonly plain: Readonly<Record<string, PlainValue>>;
  readonly tensors: readonly TensorHeader[];
}

/** `put` sends or publishes one message after the other. */
export async function sendDict(
  put: (bytes: Uint8Array) => Promise<void>,
  dict: TensorDict,
): Promise<void> {
  const tensors = Object.entries(dict).filter((entry): entry is [string, HostTensor] =>
    isTensor(entry[1]),
  );
  const plain = Object.fromEntries(
    Object.entries(dict).filter((entry): entry is [string, PlainValue] => !isTensor(entry[1])),
  );
  const header: DictHeader = {
    names: Object.keys(dict),
    plain,
    tensors: tensors.map(([name, { shape, data, dtype }]) => ({
      name,
      view: viewName(data),
      dtype,
      shape,
    })),
  };
  await put(new TextEncoder().encode(JSON.stringify(header)));
  for (const [, { data }] of tensors) await put(bytesOfArray(data));
}

export async function recvDict(
  operation: Operation,
  from: number,
): Promise<Record<string, HostTensor | PlainValue>> {
  const header = parseHeader(await operation.recvBytes(from));
  const values: Record<string, HostTensor | PlainValue> = { ...header.plain };
  for (const { name, view, dtype, shape } of header.tensors) {
    const data = new VIEWS[view](shape.reduce((count, size) => count * size, 1));
    await operation.recvInto(from, bytesOfArray(data));
    values[name] = dtype === undefined ? { shape, data } : { shape, data, dtype };
  }
  return Object.fromEntries(header.names.map((name) => [name, values[name] ?? null]));
}

export function isTensor(value: HostTensor | PlainValue): value is HostTensor {
  return typeof value === "object" && value !== null && "data" in value && isView(value.data);
}

/** Bytes of all tensors, for the record. */
export function dictBytes(dict: TensorDict): number {
  return Object.values(dict).reduce<number>(
    (sum, value) => sum + (isTensor(value) ? value.data.byteLength : 0),
    0,
  );
}

function isView(value: unknown): value is TensorData {
  return Object.values(VIEWS).some((View) => value instanceof View);
}

function viewName(data: TensorData): ViewName {
  const found = Object.entries(VIEWS).find(([, View]) => data instanceof View);
  return (found?.[0] ?? "u8") as ViewName;
}

function parseHeader(bytes: Uint8Array): DictHeader {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as DictHeader;
  } catch (error) {
    throw new CollectiveError(`tensor dict: its header is not JSON: ${messageOf(error)}`);
  }
}
