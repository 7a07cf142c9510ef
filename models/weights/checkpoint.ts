/** A Hugging Face checkpoint: one safetensors file, or several with an index. */
import { messageOf, WeightsError } from "../../src/common/errors.ts";
import { type FileSource, joinPath, readJson } from "./files.ts";
import {
  DTYPE_BYTES,
  headerLength,
  LENGTH_BYTES,
  parseHeader,
  type TensorInfo,
  WEIGHT_DTYPES,
} from "./safetensorsHeader.ts";
import {
  type Block,
  blocksOf,
  isContiguous,
  packBlock,
  readsOf,
  resolveSlice,
  type SliceGeometry,
} from "./slice.ts";
import {
  type OnChunk,
  sizeOf,
  type Slice,
  type SliceRead,
  type WeightInfo,
  type WeightSource,
} from "./weightSource.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** Opens a model directory's weights: reads and checks every header, and no weight. */
export async function openCheckpoint(files: FileSource, dir: string): Promise<Checkpoint> {
  const single = joinPath(dir, SINGLE);
  if (await files.exists(single)) return new Checkpoint(files, await readTensors(files, single));
  const index = joinPath(dir, INDEX);
  if (await files.exists(index)) return new Checkpoint(files, await readIndexed(files, dir, index));
  throw new WeightsError({
    what: dir,
    expected: `${SINGLE} or ${INDEX}`,
    got: "neither",
    remedy: "other weight formats (.bin, .gguf) are not read",
  });
}

/** The tensors of one file. */
export async function readTensors(files: FileSource, path: string): Promise<TensorInfo[]> {
  const fileSize = await files.size(path);
  const first = await readExactly(files, path, 0, Math.min(LENGTH_BYTES, fileSize));
  const length = headerLength(path, first, fileSize);
  const header = await readExactly(files, path, LENGTH_BYTES, LENGTH_BYTES + length);
  return parseHeader(path, header, fileSize);
}

async function readIndexed(files: FileSource, dir: string, path: string): Promise<TensorInfo[]> {
  const fileOf = await readWeightMap(files, path);
  const found = new Map<string, Map<string, TensorInfo>>();
  for (const file of new Set(fileOf.values())) {
    const filePath = joinPath(dir, file);
    if (!(await files.exists(filePath))) {
      const numTensors = [...fileOf.values()].filter((other) => other === file).length;
      throw new WeightsError({
        what: filePath,
        expected: `the file that holds ${numTensors} tensors of ${path}`,
        got: "no such file",
        remedy: "download all files of the checkpoint",
      });
    }
    const tensors = await readTensors(files, filePath);
    found.set(file, new Map(tensors.map((tensor) => [tensor.name, tensor])));
  }
  return [...fileOf].map(([name, file]) => {
    const tensor = found.get(file)?.get(name);
    if (tensor !== undefined) return tensor;
    throw new WeightsError({
      what: joinPath(dir, file),
      expected: `the tensor ${name}, as ${path} says`,
      got: "no such tensor",
      remedy: "index and files are of different checkpoints: download both again",
    });
  });
}

async function readWeightMap(files: FileSource, path: string): Promise<Map<string, string>> {
  const json = await readJson(files, path, WeightsError);
  const { weight_map } = Object(json) as Record<string, unknown>;
  const map = Object(weight_map) as Record<string, unknown>;
  const fileOf = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    // a path may not lead out of the model's directory
    if (typeof file !== "string" || !/^[^/\\]+\.safetensors$/.test(file)) {
      throw new WeightsError({
        what: `${path}: weight_map: ${name}`,
        expected: "the name of a .safetensors file beside the index",
        got: JSON.stringify(file),
      });
    }
    fileOf.set(name, file);
  }
  if (fileOf.size > 0) return fileOf;
  throw new WeightsError({ what: `${path}: weight_map`, expected: "tensors", got: "none" });
}

async function readExactly(
  files: FileSource,
  path: string,
  begin: number,
  end: number,
): Promise<Uint8Array> {
  const what = `${path}: bytes ${begin} to ${end}`;
  let bytes: Uint8Array;
  try {
    bytes = await files.read(path, begin, end);
  } catch (error) {
    throw new WeightsError({ what, expected: "to be read", got: messageOf(error) });
  }
  if (bytes.byteLength === end - begin) return bytes;
  throw new WeightsError({
    what,
    expected: `${end - begin} bytes`,
    got: bytes.byteLength,
    remedy: "the file changed while it was read",
  });
}

/** Tensors by name, read in slices. */
export class Checkpoint implements WeightSource {
  readonly names: readonly string[];
  readonly #files: FileSource;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;

  constructor(files: FileSource, tensors: readonly TensorInfo[]) {
    this.#files = files;
    this.#tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.names = [...this.#tensors.keys()];
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Where a tensor lies, in the format's own terms. */
  tensorInfo(name: string): TensorInfo {
    const tensor = this.#tensors.get(name);
    if (tensor !== undefined) return tensor;
    const got = `no such tensor among ${this.names.length}`;
    throw new WeightsError({ what: name, expected: "a tensor of the checkpoint", got });
  }

  info(name: string): WeightInfo {
    const { dtype, shape, file } = this.tensorInfo(name);
    const weightDType = WEIGHT_DTYPES[dtype];
    if (weightDType !== undefined) return { dtype: weightDType, shape, origin: file };
    throw new WeightsError({
      what: `${file}: ${name}: dtype`,
      expected: Object.keys(WEIGHT_DTYPES).join(", "),
      got: dtype,
      remedy: "quantized checkpoints are not supported",
    });
  }

  async readSlice(name: string, slice: Slice, onChunk: OnChunk): Promise<void> {
    const tensor = this.tensorInfo(name);
    const geometry = resolveSlice(name, tensor.shape, slice, DTYPE_BYTES[tensor.dtype]);
    for (const block of blocksOf(geometry)) {
      const bytes = await this.#readBlock(tensor, geometry, block);
      await onChunk({ offset: block.offset, bytes });
    }
  }

  *sliceReads(name: string, slice: Slice, maxBytes: number): Generator<SliceRead> {
    const tensor = this.tensorInfo(name);
    const geometry = resolveSlice(name, tensor.shape, slice, DTYPE_BYTES[tensor.dtype]);
    for (const block of blocksOf(geometry, maxBytes)) {
      const sizeBytes = sizeOf(block.rows) * block.packedColumns * geometry.bytesPerElement;
      const into = (view: Uint8Array): Promise<void> =>
        this.#readBlockInto(tensor, geometry, block, view);
      yield { offset: block.offset, sizeBytes, into };
    }
  }

  async #readBlock(tensor: TensorInfo, geometry: SliceGeometry, block: Block): Promise<Uint8Array> {
    const reads: Uint8Array[] = [];
    for (const { begin, end } of readsOf(geometry, block)) {
      const [first, last] = [tensor.begin + begin, tensor.begin + end];
      reads.push(await readExactly(this.#files, tensor.file, first, last));
    }
    return packBlock(geometry, block, reads);
  }

  /** Without a copy where the file holds the block as it is wanted. */
  async #readBlockInto(
    tensor: TensorInfo,
    geometry: SliceGeometry,
    block: Block,
    into: Uint8Array,
  ): Promise<void> {
    const [only] = readsOf(geometry, block);
    const isDirect = only !== undefined && isContiguous(geometry, block);
    if (isDirect && this.#files.readInto !== undefined) {
      await this.#files.readInto(tensor.file, tensor.begin + only.begin, into);
    } else {
      into.set(await this.#readBlock(tensor, geometry, block));
    }
  }
}
