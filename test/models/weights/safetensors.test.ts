import { expect, test } from "vitest";
import { WeightsError } from "../../../src/common/errors.ts";
import { openCheckpoint } from "../../../models/weights/checkpoint.ts";
import { memoryFiles } from "../../../models/weights/files.ts";
import { nodeFiles } from "../../../models/weights/filesNode.ts";
import {
  f32Tensor,
  parseSafetensors,
  readSafetensors,
  toFloat32,
  writeSafetensors,
} from "../../../models/weights/safetensors.ts";

const fixture = new URL("../../fixtures/llama-odd/", import.meta.url).pathname;

/** A file with any header and any number of data bytes. */
function fileOf(header: unknown, dataBytes: number): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const file = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  file.set(json, 8);
  return file;
}

function lengthField(length: bigint): Uint8Array {
  const file = new Uint8Array(64);
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
}

const a = { dtype: "F32", shape: [2, 2], data_offsets: [0, 16] };

test("what is written is read back, with metadata, and the data is aligned", () => {
  const x = f32Tensor(Float32Array.of(1, -2.5, 3, 4, 5, 6), [2, 3]);
  const y = { dtype: "BF16", shape: [3], bytes: Uint8Array.of(0x80, 0x3f, 0, 0xc0, 0, 0) } as const;
  const file = writeSafetensors({ x, y }, { format: "pt" });
  const read = parseSafetensors(file, "t");
  expect([...read.keys()]).toEqual(["x", "y"]);
  expect([...toFloat32("x", read.get("x") ?? x)]).toEqual([1, -2.5, 3, 4, 5, 6]);
  expect([...toFloat32("y", read.get("y") ?? y)]).toEqual([1, -2, 0]);
  expect(Number(new DataView(file.buffer).getBigUint64(0, true)) % 8).toBe(0);
});

test("golden files of the reference implementation are read", async () => {
  const golden = await readSafetensors(nodeFiles, `${fixture}golden.safetensors`);
  expect(golden.get("logits.2")?.shape).toEqual([33, 331]);
  const logits = golden.get("logits.1");
  expect(logits && toFloat32("logits.1", logits).every(Number.isFinite)).toBe(true);
});

test("an empty tensor and a scalar are legal", () => {
  const header = {
    none: { dtype: "F32", shape: [0, 4], data_offsets: [0, 0] },
    one: { dtype: "I64", shape: [], data_offsets: [0, 8] },
  };
  expect(parseSafetensors(fileOf(header, 8), "t").size).toBe(2);
});

const badFiles: readonly [string, Uint8Array, string][] = [
  ["an empty file", new Uint8Array(0), "file size: expected at least 8 bytes, got 0"],
  ["7 bytes", new Uint8Array(7), "file size: expected at least 8 bytes, got 7"],
  ["a header longer than the file", lengthField(57n), "header length: expected at most 56 bytes"],
  ["an absurd header length", lengthField(2n ** 63n), "got 9223372036854775808"],
  ["a Git LFS pointer", new TextEncoder().encode("version https://git-lfs"), "run git lfs pull"],
  ["no JSON", fileOf("{", 0), "header: expected valid JSON"],
  ["no UTF-8", Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0xff), "header: expected valid JSON in UTF-8"],
  ["a JSON list", fileOf("[]", 0), "header: expected a JSON object, got []"],
  ["an unknown dtype", fileOf({ a: { ...a, dtype: "F12" } }, 16), "a: dtype: expected one of F64"],
  ["a dtype from Object", fileOf({ a: { ...a, dtype: "toString" } }, 16), 'got "toString"'],
  ["no entry", fileOf({ a: null }, 0), "a: dtype: expected one of F64"],
  ["a negative size", fileOf({ a: { ...a, shape: [-2, -2] } }, 16), "a: shape: expected a list"],
  ["a broken size", fileOf({ a: { ...a, shape: [1.5] } }, 16), "a: shape: expected a list"],
  ["no offsets", fileOf({ a: { ...a, data_offsets: [0] } }, 16), "two whole numbers"],
  ["offsets outside", fileOf({ a }, 12), "begin <= end <= 12, the file's data, got [0,16]"],
  [
    "offsets backwards",
    fileOf({ a: { ...a, data_offsets: [16, 0] } }, 16),
    "a: data_offsets: expected begin <= end",
  ],
  [
    "a shape that does not fit its bytes",
    fileOf({ a: { ...a, shape: [2, 3] } }, 16),
    "a: data_offsets: expected 24 bytes for F32 [2, 3], got 16",
  ],
  [
    "a shape whose product overflows",
    fileOf({ a: { ...a, shape: [2 ** 40, 2 ** 40] } }, 16),
    "bytes for F32 [1099511627776, 1099511627776], got 16",
  ],
  [
    "overlapping tensors",
    fileOf({ a, b: { ...a, data_offsets: [8, 24] } }, 24),
    "b: data_offsets: expected a begin of 16, got 8, which overlaps the tensor before it",
  ],
  [
    "a hole",
    fileOf({ a, b: { ...a, data_offsets: [20, 36] } }, 36),
    "b: data_offsets: expected a begin of 16, got 20, which leaves a hole",
  ],
  ["bytes past the last tensor", fileOf({ a }, 20), "where the last tensor ends, got"],
  [
    "a name twice",
    fileOf(`{"a": ${JSON.stringify(a)}, "b\\u0061": {}, "ba": {}}`, 16),
    "header: expected each name once, got ba twice",
  ],
];

test.each(badFiles)("%s is refused", async (_, bytes, message) => {
  const files = memoryFiles({ "m/model.safetensors": bytes });
  const opened = openCheckpoint(files, "m");
  await expect(opened).rejects.toThrow(WeightsError);
  await expect(opened).rejects.toThrow(message);
  await expect(opened).rejects.toThrow("m/model.safetensors");
  expect(() => parseSafetensors(bytes, "t")).toThrow(message);
});

test("a fixture cut anywhere is refused, whatever byte is missing", async () => {
  const path = `${fixture}model.safetensors`;
  const whole = await nodeFiles.read(path, 0, await nodeFiles.size(path));
  for (const length of [0, 5, 8, 100, 5000, whole.byteLength / 2, whole.byteLength - 1]) {
    const files = memoryFiles({ "m/model.safetensors": whole.slice(0, length) });
    await expect(openCheckpoint(files, "m"), String(length)).rejects.toThrow(WeightsError);
  }
});
