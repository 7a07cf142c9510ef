import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { InputError } from "../../../src/common/errors.ts";
import { nodeFiles, writeFileAtomic } from "../../../models/weights/filesNode.ts";

let dir = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "tandem-files-"));
});
afterAll(async () => {
  await rm(dir, { recursive: true });
});

test("a written file is read back, whole and in ranges", async () => {
  const path = join(dir, "x");
  await writeFileAtomic(path, "first");
  await writeFileAtomic(path, Uint8Array.of(104, 101, 108, 108, 111));
  expect(await nodeFiles.readText(path)).toBe("hello");
  expect(await nodeFiles.size(path)).toBe(5);
  expect([...(await nodeFiles.read(path, 1, 3))]).toEqual([101, 108]);
  expect(await nodeFiles.exists(path)).toBe(true);
  expect(await readdir(dir)).toEqual(["x"]);
});

test("a range past the end is an error, not a short read", async () => {
  const path = join(dir, "x");
  await expect(nodeFiles.read(path, 3, 9)).rejects.toThrow("x: expected 9 bytes, got 5");
});

test("readInto fills the memory that it is given, or names the file's end", async () => {
  const path = join(dir, "into");
  await writeFileAtomic(path, Uint8Array.of(1, 2, 3, 4, 5));
  const memory = new Uint8Array(8).fill(9);
  await nodeFiles.readInto?.(path, 1, memory.subarray(2, 5));
  expect([...memory]).toEqual([9, 9, 2, 3, 4, 9, 9, 9]);
  await expect(nodeFiles.readInto?.(path, 3, memory)).rejects.toThrow(/into: expected 11 bytes/);
  await rm(path);
});

test("a missing file and a directory are named", async () => {
  expect(await nodeFiles.exists(join(dir, "none"))).toBe(false);
  expect(await nodeFiles.exists(dir)).toBe(false);
  await expect(nodeFiles.size(join(dir, "none"))).rejects.toThrow(InputError);
  await expect(nodeFiles.readText(join(dir, "none"))).rejects.toThrow(
    "none: expected a file to read",
  );
  await expect(nodeFiles.read(dir, 0, 1)).rejects.toThrow(InputError);
});

test("a failed write leaves nothing behind", async () => {
  await mkdir(join(dir, "taken"));
  await expect(writeFileAtomic(join(dir, "no", "x"), "a")).rejects.toThrow("a file to write");
  await expect(writeFileAtomic(join(dir, "taken"), "a")).rejects.toThrow(InputError);
  expect((await readdir(dir)).sort()).toEqual(["taken", "x"]);
});
