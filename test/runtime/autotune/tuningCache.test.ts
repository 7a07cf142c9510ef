import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  readTuning,
  tuningFile,
  type TuningKey,
  writeTuning,
} from "../../../src/runtime/autotune/tuningCacheNode.ts";

const key: TuningKey = {
  adapter: "NVIDIA H200",
  driver: "580.1",
  dawn: "webgpu 0.6.2",
  robustness: "off",
};
const tuned = { "linear bf16 2048x8192": { lanes1: 256 }, "attention splits": {} };

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tandem-tuning-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

test("what was written is read again, and only under its own key", async () => {
  const notes: string[] = [];
  const note = (message: string): void => void notes.push(message);
  const nested = join(folder, "not", "there", "yet");
  await writeTuning(nested, key, tuned, note);
  expect(await readTuning(nested, key, note)).toEqual(tuned);
  for (const other of [
    { ...key, adapter: "NVIDIA H100" },
    { ...key, driver: "581.0" },
    { ...key, dawn: "webgpu 0.7.0" },
    { ...key, robustness: "on" as const },
  ]) {
    expect(await readTuning(nested, other, note)).toEqual({});
  }
  expect(notes).toEqual([]);
});

test.for([
  ["a truncated file", (text: string) => text.slice(0, -20), /JSON/],
  ["an empty file", () => "", /JSON/],
  ["another format", (text: string) => text.replace('"format": 3', '"format": 4'), /format 4/],
  ["another driver", (text: string) => text.replace("580.1", "579.0"), /another adapter/],
  ["entries of another kind", (text: string) => text.replace("256", '"wide"'), /not numbers/],
  ["a list", () => "[1, 2]", /format undefined/],
  ["null", () => "null", /format undefined/],
] as const)("%s is ignored with a note", async ([, damage, reason]) => {
  const quiet = (): void => undefined;
  await writeTuning(folder, key, tuned, quiet);
  const file = tuningFile(folder, key);
  await writeFile(file, damage(await readFile(file, "utf8")));
  const notes: string[] = [];
  expect(await readTuning(folder, key, (message) => void notes.push(message))).toEqual({});
  expect(notes).toHaveLength(1);
  expect(notes[0]).toMatch(reason);
  expect(notes[0]).toContain(file);
});

test("a folder that cannot be written is a note", async () => {
  const file = join(folder, "a file");
  await writeFile(file, "");
  const notes: string[] = [];
  await writeTuning(file, key, tuned, (message) => void notes.push(message));
  expect(notes[0]).toMatch(/not written/);
});
