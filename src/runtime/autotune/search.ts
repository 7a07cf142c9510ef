/** The measured search: which of a few numbers is fastest for each shape, on one device. */
import type { TunedNumbers } from "../../device/adapterInfo.ts";
import type { Device } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import type { Recorder } from "../../device/recorder.ts";
import { linear, type LinearWeight } from "../../kernels/linear.ts";
import { hasMatrixKernel } from "../../kernels/linearMatrix.ts";
import {
  type LinearChoice,
  linearCandidates,
  linearVariants,
} from "../../kernels/linearVariant.ts";
import { CaseMemory } from "../bench/kernelCase.ts";
import { timeLaunches } from "../bench/timeLaunches.ts";
import type { TunableLinear } from "./shapes.ts";

/**
 * A choice must be faster than the default by this part of it to replace it. On software adapters sizes differ by
 * less than other work on the same cores (linearVariant.ts has a table), and each one more is a pipeline to compile.
 */
export const MIN_GAIN = { software: 0.25, hardware: 0.03 } as const;
/** Weights that take turns, so that no cache holds them; and calls a timing. */
const COLD_BYTES = 192 << 20;
const MAX_COPIES = 32;
const NUM_CALLS = { software: 2, hardware: 24 } as const;
const NUM_REPEATS = 3;
const WARM_UP_MS = 15;

/** Live rows at which each field is measured. */
const ROWS = { workgroups1: 1, lanes1: 1, lanes4: 4, lanes8: 8 } as const;
/** Rows of gemmMinRows' candidates, each with a count in the middle of its range. */
const GEMM_RANGES = [
  { minRows: 9, rows: 12 },
  { minRows: 17, rows: 24 },
  { minRows: 33, rows: 48 },
] as const;
const NEVER_BELOW = 65;

/** The fastest numbers of one linear shape; an empty entry where the defaults are. */
export async function searchLinear(
  device: Device,
  shape: TunableLinear,
): Promise<Readonly<Record<string, number>>> {
  const memory = new CaseMemory(device);
  try {
    const timer = await LinearTimer.create(memory, shape);
    const best: Record<string, number> = {};
    const minGain = device.info.isSoftware ? MIN_GAIN.software : MIN_GAIN.hardware;
    for (const field of ["workgroups1", "lanes1", "lanes4", "lanes8"] as const) {
      const rows = ROWS[field];
      const numbers = (value: number): Record<string, number> => ({ ...best, [field]: value });
      const candidates = linearCandidates(field, device.info).filter((value) =>
        timer.differ(best, numbers(value), rows),
      );
      const time = (value?: number): Promise<number> =>
        timer.time(value === undefined ? best : numbers(value), rows);
      const number = await fastest(candidates, time, minGain);
      if (number !== undefined) best[field] = number;
    }
    const hasTiles = !device.info.isSoftware && !hasMatrixKernel(device.info);
    if (hasTiles) best["gemmMinRows"] = await searchCrossover(timer, best);
    return best;
  } finally {
    memory.free();
  }
}

/**
 * The candidate that beats the default by enough, if any. The default is timed first and last, as what runs
 * first may find a device that is not awake yet.
 */
export async function fastest(
  candidates: readonly number[],
  time: (value?: number) => Promise<number>,
  minGain: number = MIN_GAIN.hardware,
): Promise<number | undefined> {
  if (candidates.length === 0) return undefined;
  const before = await time();
  const timed: { value: number; us: number }[] = [];
  for (const value of candidates) timed.push({ value, us: await time(value) });
  const usual = Math.min(before, await time());
  const [best] = timed.sort((one, other) => one.us - other.us);
  return best !== undefined && best.us < usual * (1 - minGain) ? best.value : undefined;
}

/** The least count from which tiles win for every larger one that was measured. */
async function searchCrossover(
  timer: LinearTimer,
  lanes: Readonly<Record<string, number>>,
): Promise<number> {
  let crossover = NEVER_BELOW;
  for (const { minRows, rows } of [...GEMM_RANGES].reverse()) {
    const gemm = await timer.time({ gemmMinRows: minRows }, rows);
    const gemv = await timer.time({ ...lanes, gemmMinRows: NEVER_BELOW }, rows);
    if (gemv < gemm) return crossover;
    crossover = minRows;
  }
  return crossover;
}

/** Rows that x and out have room for: all counts that are measured. */
const CAPACITY = 48;

type RecordCall = (rec: Recorder, copy: number, choice: LinearChoice) => void;

/** Times one shape with given numbers, by the choice that the layer itself would make of them. */
class LinearTimer {
  readonly #device: Device;
  readonly #shape: TunableLinear;
  readonly #record: RecordCall;
  readonly #numCopies: number;

  private constructor(device: Device, shape: TunableLinear, numCopies: number, record: RecordCall) {
    this.#device = device;
    this.#shape = shape;
    this.#numCopies = numCopies;
    this.#record = record;
  }

  static async create(memory: CaseMemory, shape: TunableLinear): Promise<LinearTimer> {
    const { device } = memory;
    const { outFeatures, inFeatures, dtype, isSwiglu } = shape;
    const bytes = outFeatures * inFeatures * (dtype === "f32" ? 4 : 2);
    const wanted = device.info.isSoftware ? 1 : Math.ceil(COLD_BYTES / bytes);
    const numCopies = Math.min(MAX_COPIES, wanted);
    const weights: LinearWeight[] = [];
    for (let i = 0; i < numCopies; i++) {
      weights.push(await memory.weight(outFeatures, inFeatures, dtype, isSwiglu));
    }
    const x = await memory.filled([CAPACITY, inFeatures]);
    const out = memory.empty([CAPACITY, isSwiglu ? outFeatures / 2 : outFeatures]);
    const activation = isSwiglu ? "swiglu" : "none";
    return new LinearTimer(device, shape, numCopies, (rec, copy, choice) => {
      const weight = weights[copy];
      if (weight === undefined) return;
      linear(rec, { x, weight, out, rows: "tokens", activation, choices: [choice] });
    });
  }

  /** Whether the two choose different sizes for `rows` live rows. */
  differ(
    one: Readonly<Record<string, number>>,
    other: Readonly<Record<string, number>>,
    rows: number,
  ): boolean {
    const sizesOf = (numbers: Readonly<Record<string, number>>): string => {
      const variant = this.#choice(numbers, rows)?.variant;
      if (variant?.kind !== "gemv") return "";
      return `${variant.workgroupSize} ${variant.maxWorkgroups ?? 0}`;
    };
    return sizesOf(one) !== sizesOf(other);
  }

  /** Microseconds a call with `rows` live rows, at best: other work only ever adds. */
  async time(numbers: Readonly<Record<string, number>>, rows: number): Promise<number> {
    const { info } = this.#device;
    const choice = this.#choice(numbers, rows);
    if (choice === undefined) return Infinity;
    const wanted = info.isSoftware ? NUM_CALLS.software : NUM_CALLS.hardware;
    const numCalls = Math.max(this.#numCopies, wanted);
    const { launchUs } = await timeLaunches(
      this.#device,
      (rec) => {
        for (let call = 0; call < numCalls; call++) {
          this.#record(rec, call % this.#numCopies, choice);
        }
      },
      { live: liveRows(rows), numRepeats: NUM_REPEATS, warmUpMs: WARM_UP_MS },
    );
    return Math.min(...launchUs);
  }

  #choice(numbers: Readonly<Record<string, number>>, rows: number): LinearChoice | undefined {
    const tuned: TunedNumbers = { [this.#shape.entry]: numbers };
    const shape = { ...this.#shape, capacity: CAPACITY };
    const choices = linearVariants(shape, { ...this.#device.info, tuned });
    return choices.find(({ minRows, maxRows }) => minRows <= rows && rows <= maxRows);
  }
}
