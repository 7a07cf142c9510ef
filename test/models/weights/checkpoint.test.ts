import fc from "fast-check";
import { expect, test } from "vitest";
import { WeightsError } from "../../../src/common/errors.ts";
import { openCheckpoint, readTensors } from "../../../models/weights/checkpoint.ts";
import { type FileSource, memoryFiles } from "../../../models/weights/files.ts";
import { nodeFiles } from "../../../models/weights/filesNode.ts";
import { f32Tensor, writeSafetensors } from "../../../models/weights/safetensors.ts";
import { blocksOf, readsOf, resolveSlice } from "../../../models/weights/slice.ts";
import { MAX_CHUNK_BYTES, readPacked, sizeOf } from "../../../models/weights/weightSource.ts";

const index = "m/model.safetensors.index.json";

function counting(numElements: number): Float32Array {
  return Float32Array.from({ length: numElements }, (_, i) => i);
}

function oneFile(shape: readonly number[]): FileSource {
  const size = shape.reduce((a, b) => a * b, 1);
  const pad = f32Tensor(counting(3), [3]);
  const bytes = writeSafetensors({ pad, x: f32Tensor(counting(size), shape) });
  return memoryFiles({ "m/model.safetensors": bytes });
}

const range = (size: number): fc.Arbitrary<{ begin: number; end: number }> =>
  fc
    .tuple(fc.nat(size), fc.nat(size))
    .map(([p, q]) => ({ begin: Math.min(p, q), end: Math.max(p, q) }));

const sliced = fc
  .tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 30 }))
  .chain(([numRows, numColumns]) =>
    fc.record({
      shape: fc.constant([numRows, numColumns] as const),
      rows: range(numRows),
      columns: range(numColumns),
      rowPaddingElements: fc.constantFrom(1, 8),
    }),
  );

test("readSlice packs exactly the rows and columns asked for, padded with zeros", async () => {
  await fc.assert(
    fc.asyncProperty(sliced, async ({ shape, rows, columns, rowPaddingElements }) => {
      const checkpoint = await openCheckpoint(oneFile(shape), "m");
      const packed = await readPacked(checkpoint, "x", { rows, columns, rowPaddingElements });
      const expected: number[] = [];
      for (let row = rows.begin; row < rows.end && sizeOf(columns) > 0; row += 1) {
        for (let column = columns.begin; column < columns.end; column += 1) {
          expected.push(row * shape[1] + column);
        }
        while (expected.length % rowPaddingElements !== 0) expected.push(0);
      }
      expect([...new Float32Array(packed.buffer)]).toEqual(expected);
    }),
  );
});

/** As oneFile, from a disk that hands out bytes into given memory and, as disks do, at any time. */
function disk(shape: readonly number[]): FileSource {
  const files = oneFile(shape);
  return {
    ...files,
    readInto: async (path, begin, into) => {
      await new Promise((resolve) => setImmediate(resolve));
      into.set(await files.read(path, begin, begin + into.byteLength));
    },
  };
}

test("sliceReads give the same bytes in any order, straight from the file or packed", async () => {
  const limits = fc.constantFrom(32, 64, 4096);
  const agrees = fc.asyncProperty(sliced, limits, async ({ shape, ...slice }, maxBytes) => {
    const checkpoint = await openCheckpoint(disk(shape), "m");
    const want = await readPacked(checkpoint, "x", slice);
    const got = new Uint8Array(want.byteLength).fill(0xff);
    const reads = [...checkpoint.sliceReads("x", slice, maxBytes)].reverse();
    await Promise.all(
      reads.map(async ({ offset, sizeBytes, into }) => {
        expect(sizeBytes).toBeLessThanOrEqual(maxBytes);
        await into(got.subarray(offset, offset + sizeBytes));
      }),
    );
    expect(got).toEqual(want);
  });
  // two rows of 4 of 12 columns, padded to 8: as many bytes as what is read, with the gap, but others
  const columns = { begin: 0, end: 4 };
  const rows = { begin: 0, end: 2 };
  const edge = { shape: [2, 12], rows, columns, rowPaddingElements: 8 } as const;
  await fc.assert(agrees, { examples: [[edge, 4096]] });
});

test("a 1-D tensor is sliced by rows and padded at its end", async () => {
  const checkpoint = await openCheckpoint(oneFile([20]), "m");
  const rows = { begin: 3, end: 6 };
  const packed = await readPacked(checkpoint, "x", { rows, rowPaddingElements: 8 });
  expect([...new Float32Array(packed.buffer)]).toEqual([3, 4, 5, 0, 0, 0, 0, 0]);
});

test("blocks cover the packed slice in order, without gaps, within the limit", () => {
  const limits = fc.constantFrom(32, 64, 100, 4096);
  fc.assert(
    fc.property(sliced, limits, ({ shape, ...slice }, maxBytes) => {
      const geometry = resolveSlice("x", shape, slice, 4);
      let end = 0;
      for (const block of blocksOf(geometry, maxBytes)) {
        expect(block.offset).toBe(end);
        const sizeBytes = sizeOf(block.rows) * block.packedColumns * 4;
        expect(sizeBytes).toBeLessThanOrEqual(maxBytes);
        end += sizeBytes;
        for (const read of readsOf(geometry, block)) {
          expect(sizeOf(read)).toBeLessThanOrEqual(maxBytes);
        }
      }
      const hasColumns = sizeOf(slice.columns) > 0;
      expect(end).toBe(hasColumns ? sizeOf(slice.rows) * geometry.packedRowElements * 4 : 0);
    }),
  );
});

test("ranges closer than 64 KiB are one read; farther apart, one a row", () => {
  const reads = (rowElements: number): number[] => {
    const columns = { begin: 0, end: 64 };
    const geometry = resolveSlice("x", [100, rowElements], { columns }, 4);
    return [...blocksOf(geometry)].map((block) => readsOf(geometry, block).length);
  };
  expect(reads(64 + 16_383)).toEqual([1, 1]); // 100 rows of 65,788 bytes: two chunks of 4 MiB
  expect(reads(64 + 16_384)).toEqual([100]);
});

test("a large tensor arrives in chunks of 4 MiB at most, each awaited before the next", async () => {
  const checkpoint = await openCheckpoint(oneFile([3000, 1000]), "m");
  const sizes: number[] = [];
  let isBusy = false;
  await checkpoint.readSlice("x", {}, async ({ bytes }) => {
    expect(isBusy).toBe(false);
    isBusy = true;
    await Promise.resolve();
    isBusy = false;
    sizes.push(bytes.byteLength);
  });
  expect(Math.max(...sizes)).toBeLessThanOrEqual(MAX_CHUNK_BYTES);
  expect(sizes.reduce((a, b) => a + b, 0)).toBe(12_000_000);
  expect(sizes).toHaveLength(3);
});

test("a slice outside the tensor is refused", async () => {
  const checkpoint = await openCheckpoint(oneFile([4, 4]), "m");
  const rows = { begin: 2, end: 5 };
  await expect(readPacked(checkpoint, "x", { rows })).rejects.toThrow(
    "x: rows: expected a range within 0 to 4, got 2 to 5",
  );
});

test("several files with an index are one checkpoint", async () => {
  const part = (begin: number): Uint8Array =>
    writeSafetensors({ [`t${begin}`]: f32Tensor(Float32Array.of(begin), [1]) });
  const files = memoryFiles({
    [index]: JSON.stringify({ weight_map: { t1: "a.safetensors", t2: "b.safetensors" } }),
    "m/a.safetensors": part(1),
    "m/b.safetensors": part(2),
  });
  const checkpoint = await openCheckpoint(files, "m");
  expect(checkpoint.names).toEqual(["t1", "t2"]);
  expect(checkpoint.info("t2")).toEqual({ dtype: "f32", shape: [1], origin: "m/b.safetensors" });
  expect([...new Float32Array((await readPacked(checkpoint, "t2")).buffer)]).toEqual([2]);
});

const one = writeSafetensors({ t1: f32Tensor(Float32Array.of(1), [1]) });
const mapTo = (map: unknown): string => JSON.stringify({ weight_map: map });

test.each<[string, Record<string, string | Uint8Array>, string]>([
  ["nothing", {}, "m: expected model.safetensors or model.safetensors.index.json, got neither"],
  ["an index that is no JSON", { [index]: "x" }, `${index}: expected valid JSON`],
  ["an index without a map", { [index]: "{}" }, "weight_map: expected tensors, got none"],
  ["an index that is null", { [index]: "null" }, "weight_map: expected tensors, got none"],
  [
    "a file that is missing",
    { [index]: mapTo({ t1: "a.safetensors", t2: "b.safetensors" }), "m/a.safetensors": one },
    `m/b.safetensors: expected the file that holds 1 tensors of ${index}, got no such file`,
  ],
  [
    "a tensor that is missing",
    { [index]: mapTo({ t1: "a.safetensors", t2: "a.safetensors" }), "m/a.safetensors": one },
    "m/a.safetensors: expected the tensor t2",
  ],
  [
    "a path out of the directory",
    { [index]: mapTo({ t1: "../a.safetensors" }), "a.safetensors": one },
    'expected the name of a .safetensors file beside the index, got "../a.safetensors"',
  ],
  [
    "a file name that is a number",
    { [index]: mapTo({ t1: 5 }) },
    "the name of a .safetensors file beside the index, got 5",
  ],
])("a directory with %s is refused", async (_, contents, message) => {
  const opened = openCheckpoint(memoryFiles(contents), "m");
  await expect(opened).rejects.toThrow(WeightsError);
  await expect(opened).rejects.toThrow(message);
});

test("a tensor that is not there, and one that is no weight, are named", async () => {
  const ids = { dtype: "I64", shape: [1], bytes: new Uint8Array(8) } as const;
  const files = memoryFiles({ "m/model.safetensors": writeSafetensors({ ids }) });
  const checkpoint = await openCheckpoint(files, "m");
  expect(() => checkpoint.info("x")).toThrow("x: expected a tensor of the checkpoint");
  expect(() => checkpoint.info("ids")).toThrow("ids: dtype: expected F32, F16, BF16, got I64");
});

test("a file that shrinks after it was opened is an error, not zeros", async () => {
  const files = oneFile([4, 4]);
  const shrinking: FileSource = {
    ...files,
    read: async (path, begin, end) =>
      (await files.read(path, begin, end)).subarray(0, begin > 8 ? 3 : undefined),
  };
  const checkpoint = await openCheckpoint(shrinking, "m");
  await expect(readPacked(checkpoint, "x", { rows: { begin: 3, end: 4 } })).rejects.toThrow(
    "expected 16 bytes, got 3; the file changed while it was read",
  );
});

test("slices of a real file equal its bytes", async () => {
  const dir = new URL("../../fixtures/llama-odd", import.meta.url).pathname;
  const path = `${dir}/model.safetensors`;
  const name = "model.layers.2.mlp.down_proj.weight";
  const checkpoint = await openCheckpoint(nodeFiles, dir);
  const tensors = await readTensors(nodeFiles, path);
  const { begin = 0, end = 0 } = tensors.find((tensor) => tensor.name === name) ?? {};
  const whole = new Uint16Array((await nodeFiles.read(path, begin, end)).buffer);
  const packed = await readPacked(checkpoint, name, { columns: { begin: 72, end: 136 } });
  const rows = Array.from({ length: 72 }, (_, row) => whole.slice(row * 200 + 72, row * 200 + 136));
  expect([...new Uint16Array(packed.buffer)]).toEqual(rows.flatMap((row) => [...row]));
});
