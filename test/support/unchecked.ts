/**
 * A second device without WebGPU's bounds checks that repeats every launch of the first and must give the
 * same bits: the proof that no kernel relies on the checks. On software adapters only this proof ever
 * turns the checks off.
 *
 * Each buffer of the first device is copied into the middle of a larger one. What lies around it is filled
 * with NaNs, so that a read out of range shows in the output, and compared afterwards, so that a write does.
 */
import { expect } from "vitest";
import type { Device } from "../../src/device/device.ts";
import type { Launch } from "../../src/device/launch.ts";
import { type LiveCounts, liveRows } from "../../src/device/liveCounts.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import type { PipelineEntry, PipelineSpec } from "../../src/device/pipelineCache.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import { Tensor, TensorStorage } from "../../src/device/tensor.ts";

/** On either side of a buffer: 64 KiB, a multiple of every alignment. */
const MARGIN_WORDS = 1 << 14;
/** A NaN as f32, and two as f16 or bf16. */
const MARGIN_WORD = 0x7fff_7fff;

/** From now on `checked.run` also runs on a device of the same adapter without checks, and compares. */
export async function proveInRange(checked: Device, deviceIndex: number): Promise<void> {
  const opener = new NodeOpener({ alsoOnSoftware: true });
  const options = { index: deviceIndex, label: "unchecked", disableRobustness: true };
  const unchecked = await opener.open(options);
  const specs = rememberSpecs(checked);
  checked.run = async (forward, given?: LiveCounts) => {
    const live = given ?? liveRows(0); // every row
    const recorder = checked.record(forward);
    const list = await checked.finish(recorder); // places temporary tensors, too
    const twin = new Twin(checked, unchecked, recorder, specs);
    try {
      await twin.copyBuffers();
      await list.replay(live);
      await list.detached;
      await twin.replay(live);
      await twin.compare();
    } finally {
      list.destroy();
      twin.destroy();
    }
  };
}

type Specs = ReadonlyMap<PipelineEntry, PipelineSpec>;

function rememberSpecs({ pipelines }: Device): Specs {
  const specs = new Map<PipelineEntry, PipelineSpec>();
  const get = pipelines.get.bind(pipelines);
  pipelines.get = (spec) => {
    const entry = get(spec);
    specs.set(entry, spec);
    return entry;
  };
  return specs;
}

/** A buffer of the checked device, and its copy between margins. */
interface Pair {
  readonly original: Tensor; // [words] u32
  readonly padded: Tensor; // [words + 2 margins] u32
  /** The copy's place: what tensors of the unchecked device lie in. */
  readonly storage: TensorStorage;
}

/** Outputs of one launch may lie in one buffer, but their bindings may not overlap. */
function isAlone(tensor: Tensor, outputs: readonly Tensor[]): boolean {
  return outputs.filter(({ buffer }) => buffer === tensor.buffer).length === 1;
}

/** One recording on the unchecked device. */
class Twin {
  readonly #checked: Device;
  readonly #unchecked: Device;
  readonly #launches: readonly Launch[];
  readonly #specs: Specs;
  readonly #pairs = new Map<GPUBuffer, Pair>();

  constructor(checked: Device, unchecked: Device, { ops }: Recorder, specs: Specs) {
    this.#checked = checked;
    this.#unchecked = unchecked;
    this.#launches = ops.filter((op) => op.kind === "launch");
    this.#specs = specs;
  }

  /** Before the checked device runs. */
  async copyBuffers(): Promise<void> {
    const tensors = this.#launches.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]);
    for (const buffer of new Set(tensors.map((tensor) => tensor.buffer))) {
      const numWords = buffer.size / 4;
      const whole = new TensorStorage(buffer.size, buffer.label, buffer);
      const original = new Tensor(whole, [numWords], "u32");
      const words = new Uint32Array(numWords + 2 * MARGIN_WORDS).fill(MARGIN_WORD);
      words.set(new Uint32Array(await this.#checked.readBytes(original)), MARGIN_WORDS);
      const padded = this.#unchecked.upload(words, [words.length], "u32", buffer.label);
      const storage = new TensorStorage(buffer.size, buffer.label);
      storage.place(padded.buffer, 4 * MARGIN_WORDS);
      this.#pairs.set(buffer, { original, padded, storage });
    }
  }

  async replay(live: LiveCounts): Promise<void> {
    await this.#unchecked.run((rec) => {
      for (const launch of this.#launches) {
        const spec = this.#specs.get(launch.pipeline);
        if (spec === undefined) throw new Error(`${launch.label}: compiled before the proof began`);
        rec.launch({
          ...launch,
          pipeline: this.#unchecked.pipelines.get(spec),
          inputs: launch.inputs.map((tensor) => this.#widened(tensor)),
          outputs: launch.outputs.map((tensor) =>
            isAlone(tensor, launch.outputs) ? this.#widened(tensor) : this.#twinOf(tensor),
          ),
        });
      }
    }, live);
  }

  #twinOf(tensor: Tensor): Tensor {
    return new Tensor(this.#pairOf(tensor).storage, tensor.shape, tensor.dtype, tensor.offsetBytes);
  }

  /** To the end of the margin: some drivers (lavapipe) check the ends of bindings by themselves. */
  #widened(tensor: Tensor): Tensor {
    const { storage, original } = this.#pairOf(tensor);
    const numWords = (original.sizeBytes - tensor.offsetBytes) / 4 + MARGIN_WORDS;
    const limit = this.#unchecked.info.limits.maxStorageBufferBindingSize / 4;
    return new Tensor(storage, [Math.min(numWords, limit)], "u32", tensor.offsetBytes);
  }

  #pairOf(tensor: Tensor): Pair {
    const pair = this.#pairs.get(tensor.buffer);
    if (pair === undefined) throw new Error(`${tensor.label}: not copied`);
    return pair;
  }

  async compare(): Promise<void> {
    for (const { original, padded } of this.#pairs.values()) {
      const want = new Uint32Array(await this.#checked.readBytes(original));
      const got = new Uint32Array(await this.#unchecked.readBytes(padded));
      const margins = [
        ...got.subarray(0, MARGIN_WORDS),
        ...got.subarray(MARGIN_WORDS + want.length),
      ];
      const label = `${this.#launches.map((launch) => launch.label).join(", ")}: ${original.label}`;
      const isUntouched = margins.every((word) => word === MARGIN_WORD);
      expect(isUntouched, `${label}: written outside its buffer without bounds checks`).toBe(true);
      const inner = got.subarray(MARGIN_WORDS, MARGIN_WORDS + want.length);
      const differs = inner.findIndex((word, index) => word !== want[index]);
      expect(differs, `${label}: word that differs without bounds checks`).toBe(-1);
    }
  }

  destroy(): void {
    for (const { padded } of this.#pairs.values()) this.#unchecked.free(padded);
  }
}
