/** What one rank's round trip through the host takes: the bound of collectives between devices. */
import { median, quantile } from "../../common/math.ts";
import type { Device } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import { gatherRows } from "../../kernels/gatherRows.ts";

const MAX_COLUMNS = 4096;
const MAX_REPEATS = 300;
const MIN_REPEATS = 5;

/** Times of one round trip, in microseconds. */
export interface RoundTrip {
  readonly sizeBytes: number;
  /** Dispatch, copy to staging, map, and `writeBuffer` of the same bytes into another tensor. */
  readonly medianUs: number;
  readonly totalUs: readonly number[];
  /** The parts: encode and submit; until the copy is mapped; the write. */
  readonly submitUs: readonly number[];
  readonly mapUs: readonly number[];
  readonly uploadUs: readonly number[];
}

/** A step of one rank with nobody to talk to. Each begins with a kernel that waits for the last one's write. */
export async function measureRoundTrip(
  device: Device,
  sizeBytes: number,
  budgetMs: number,
): Promise<RoundTrip> {
  const asked = Math.max(4, Math.floor(sizeBytes / 4));
  const columns = Math.min(MAX_COLUMNS, 4 * Math.ceil(asked / 4));
  const rows = Math.max(1, Math.floor(asked / columns));
  const x = device.empty([rows, columns], "f32", "bench round trip");
  const order = Uint32Array.from({ length: rows }, (_, row) => row);
  const indices = device.upload(order, [rows], "u32", "bench rows");
  const times: Samples = { total: [], submit: [], map: [], upload: [] };
  let [mappedAt, writtenAt] = [0, 0];
  const recorder = device.record((rec) => {
    const out = rec.alloc("bench out", [rows, columns]);
    gatherRows(rec, { x, indices, out });
    rec.hostOp({
      label: "round trip",
      downloads: [out],
      uploads: [x],
      run: async (io) => {
        const bytes = await io.download(0);
        mappedAt = performance.now();
        io.upload(x, bytes);
        writtenAt = performance.now();
      },
    });
  });
  const list = await device.finish(recorder);
  const end = performance.now() + budgetMs;
  for (let i = -1; i < MAX_REPEATS && (i < MIN_REPEATS || performance.now() < end); i++) {
    const { encodeMs, submitMs } = list.times;
    const begin = performance.now();
    await list.replay(liveRows(rows));
    if (i < 0) continue; // the first one warms up
    const submit = list.times.encodeMs + list.times.submitMs - encodeMs - submitMs;
    times.total.push(1000 * (performance.now() - begin));
    times.submit.push(1000 * submit);
    times.map.push(1000 * (mappedAt - begin - submit));
    times.upload.push(1000 * (writtenAt - mappedAt));
  }
  await device.idle();
  list.destroy();
  for (const tensor of [x, indices]) device.free(tensor);
  return {
    sizeBytes: 4 * rows * columns,
    medianUs: median(times.total),
    totalUs: times.total,
    submitUs: times.submit,
    mapUs: times.map,
    uploadUs: times.upload,
  };
}

interface Samples {
  readonly total: number[];
  readonly submit: number[];
  readonly map: number[];
  readonly upload: number[];
}

/** Round trips by size, each measured once, by rank 0 of a world alone. */
export class DeviceBound {
  readonly #device: Device;
  readonly #budgetMs: number;
  readonly #known = new Map<number, number>();

  constructor(device: Device, budgetMs: number) {
    this.#device = device;
    this.#budgetMs = budgetMs;
  }

  /** Bytes a second that one rank gets out of its device and back into it. */
  async roundTripGBps(sizeBytes: number): Promise<number> {
    const known = this.#known.get(sizeBytes);
    if (known !== undefined) return known;
    const trip = await measureRoundTrip(this.#device, sizeBytes, this.#budgetMs);
    const rate = trip.sizeBytes / (trip.medianUs * 1e3);
    this.#known.set(sizeBytes, rate);
    return rate;
  }
}

/** Latency and rates of one rank's device in words. */
export async function describeDevice(device: Device, budgetMs: number): Promise<string> {
  const small = await measureRoundTrip(device, 16, budgetMs);
  const decode = await measureRoundTrip(device, 16 * 1024, budgetMs);
  const large = await measureRoundTrip(device, 4 << 20, budgetMs);
  const rate = (samples: readonly number[]): string =>
    (large.sizeBytes / (median(samples) * 1e3)).toFixed(2);
  return [
    `${device.info.name}: dispatch, copy, map and write of 16 bytes ${small.medianUs.toFixed(0)} µs`,
    `of 16 KiB ${decode.medianUs.toFixed(0)} µs`,
    `of 4 MiB map ${rate(large.mapUs)} GB/s, write ${rate(large.uploadUs)} GB/s (one rank alone)`,
  ].join(", ");
}

/** p50 and p99 of samples in microseconds. */
export function spreadOf(samples: readonly number[]): { p50Us: number; p99Us: number } {
  return { p50Us: quantile(samples, 0.5), p99Us: quantile(samples, 0.99) };
}
