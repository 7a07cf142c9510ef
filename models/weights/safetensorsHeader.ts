/**
 * The header of a safetensors file, checked in full before anything is read by it.
 *
 * Layout  u64 little-endian header length N | N bytes of JSON | data
 * JSON    { name: { dtype, shape, data_offsets: [begin, end] }, "__metadata__"?: { key: text } }
 * Rules   offsets count from the data's start, tile it without holes or overlaps to its very end,
 *         and each length is the product of the shape times the element's size
 * Source  https://github.com/huggingface/safetensors, "Format"
 */
import type { WeightDType } from "../../src/common/dtype.ts";
import { messageOf, WeightsError } from "../../src/common/errors.ts";
import { product } from "../../src/common/math.ts";
import { show } from "../config/fields.ts";

/** Bytes an element takes, by the format's names. */
export const DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

export type SafetensorsDType = keyof typeof DTYPE_BYTES;

/** The dtypes that weights may have, in Tandem's names. */
export const WEIGHT_DTYPES: Readonly<Partial<Record<SafetensorsDType, WeightDType>>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
};

export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly file: string;
  /** First byte and the one past the last, counted from the file's start. */
  readonly begin: number;
  readonly end: number;
}

export const LENGTH_BYTES = 8;
/** The reference implementation's limit: no real header comes near it, a wrong file mostly does. */
const MAX_HEADER_BYTES = 100_000_000;
const REMEDY = "the file is damaged or incomplete: download it again";

function damaged(file: string, what: string, expected: string, got: string | number): WeightsError {
  return new WeightsError({ what: `${file}: ${what}`, expected, got, remedy: REMEDY });
}

/** Reads the first 8 bytes; returns how long the JSON is. */
export function headerLength(file: string, first: Uint8Array, fileSize: number): number {
  if (fileSize < LENGTH_BYTES) {
    throw damaged(file, "file size", `at least ${LENGTH_BYTES} bytes`, fileSize);
  }
  if (new TextDecoder().decode(first.subarray(0, LENGTH_BYTES)) === "version ") {
    throw new WeightsError({
      what: file,
      expected: "a safetensors file",
      got: "a Git LFS pointer",
      remedy: "run git lfs pull in the model's repository",
    });
  }
  const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
  const length = view.getBigUint64(0, true);
  const limit = Math.min(fileSize - LENGTH_BYTES, MAX_HEADER_BYTES);
  if (length > BigInt(limit)) {
    const expected = `at most ${limit} bytes (the file has ${fileSize})`;
    throw damaged(file, "header length", expected, String(length));
  }
  return Number(length);
}

/** Checks the JSON against the file's size; returns its tensors in the order of their bytes. */
export function parseHeader(file: string, header: Uint8Array, fileSize: number): TensorInfo[] {
  const entries = parseEntries(file, header);
  const dataBegin = LENGTH_BYTES + header.byteLength;
  const tensors = entries
    .map(([name, entry]) => parseTensor(file, name, entry, dataBegin, fileSize))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = dataBegin;
  for (const tensor of tensors) {
    if (tensor.begin !== end) {
      const problem = tensor.begin < end ? "overlaps the tensor before it" : "leaves a hole";
      const got = `${tensor.begin - dataBegin}, which ${problem}`;
      throw damaged(file, `${tensor.name}: data_offsets`, `a begin of ${end - dataBegin}`, got);
    }
    end = tensor.end;
  }
  if (end !== fileSize) {
    throw damaged(file, "file size", `${end} bytes, where the last tensor ends`, fileSize);
  }
  return tensors;
}

function parseEntries(file: string, header: Uint8Array): [string, unknown][] {
  let json: unknown;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(header);
    json = JSON.parse(text);
  } catch (error) {
    throw damaged(file, "header", "valid JSON in UTF-8", messageOf(error));
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw damaged(file, "header", "a JSON object", text.slice(0, 20));
  }
  const names = topLevelKeys(text);
  const twice = names.find((name, i) => i > 0 && names[i - 1] === name);
  if (twice !== undefined) throw damaged(file, "header", "each name once", `${twice} twice`);
  return Object.entries(json).filter(([name]) => name !== "__metadata__");
}

/** All keys of the outermost object, sorted, repeats kept: JSON.parse drops repeats in silence. */
function topLevelKeys(text: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth += 1;
    else if (token === "}" || token === "]") depth -= 1;
    else if (depth === 1 && token.endsWith(":")) {
      keys.push(JSON.parse(token.slice(0, -1)) as string);
    }
  }
  return keys.sort();
}

function parseTensor(
  file: string,
  name: string,
  entry: unknown,
  dataBegin: number,
  fileSize: number,
): TensorInfo {
  const { dtype, shape, data_offsets } = Object(entry) as Record<string, unknown>;
  const wrong = (what: string, expected: string, got: unknown): WeightsError =>
    damaged(file, `${name}: ${what}`, expected, show(got));
  if (!isDType(dtype)) throw wrong("dtype", `one of ${Object.keys(DTYPE_BYTES).join(", ")}`, dtype);
  if (!isSizes(shape)) throw wrong("shape", "a list of whole numbers", shape);
  if (!isSizes(data_offsets) || data_offsets.length !== 2) {
    throw wrong("data_offsets", "two whole numbers", data_offsets);
  }
  const [begin = 0, end = 0] = data_offsets;
  const dataSize = fileSize - dataBegin;
  if (begin > end || end > dataSize) {
    throw wrong("data_offsets", `begin <= end <= ${dataSize}, the file's data`, data_offsets);
  }
  const sizeBytes = product(shape) * DTYPE_BYTES[dtype];
  if (end - begin !== sizeBytes) {
    const expected = `${sizeBytes} bytes for ${dtype} [${shape.join(", ")}]`;
    throw wrong("data_offsets", expected, end - begin);
  }
  return { name, dtype, shape, file, begin: dataBegin + begin, end: dataBegin + end };
}

function isDType(value: unknown): value is SafetensorsDType {
  return typeof value === "string" && Object.hasOwn(DTYPE_BYTES, value);
}

function isSizes(value: unknown): value is readonly number[] {
  const isSize = (size: unknown): boolean => Number.isSafeInteger(size) && Number(size) >= 0;
  return Array.isArray(value) && value.every(isSize);
}
