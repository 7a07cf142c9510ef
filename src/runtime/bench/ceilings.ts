/** What an adapter reaches at best, measured: the bounds that stand beside every figure. */
import { DeviceError, messageOf } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import { median } from "../../common/math.ts";
import type { Device } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import { NodeOpener } from "../../device/openNode.ts";
import {
  fmaLanes,
  fmaOperations,
  fmaRate,
  MATRIX_RESULT_ELEMENTS,
  matrixOperations,
  matrixRate,
  tinyDispatch,
} from "../../kernels/ceilings.ts";
import { workgroupSize } from "../../kernels/kernel.ts";
import { hasMatrixKernel } from "../../kernels/linearMatrix.ts";
import { readBandwidth, readWorkgroups } from "../../kernels/readBandwidth.ts";
import { timeLaunches } from "./timeLaunches.ts";

export interface Ceilings {
  /** Bytes read a second, 1e9, by a kernel that reads a large buffer as a GEMV does. */
  readonly readGBps: number;
  /** f32 multiply-adds by lanes, 1e12 operations a second. */
  readonly fmaTflops: number;
  /** f16 products with f32 sums on tensor cores, 1e12 operations a second; null where there are none. */
  readonly matrixTflops: number | null;
  /** GPU time of a launch that does nothing but wait for the one before. */
  readonly dispatchUs: number;
  /** Host time to encode and submit such a launch. */
  readonly encodeUs: number;
  /** Median time of a small copy to a kept staging buffer, from encode to the mapped bytes. */
  readonly mapLatencyUs: number;
}

const NUM_MAPS = 50;
const NUM_DISPATCHES = 500;
/** Well past every cache that was seen (H200: 60 MB of L2), short enough for software adapters. */
const READ_BYTES = { software: 64 << 20, hardware: 1 << 30 } as const;

/** Opens an adapter by its index and measures it; under a second on hardware. */
export async function measureCeilings(
  index: number,
  disableRobustness?: boolean,
): Promise<Ceilings> {
  const device = await new NodeOpener().open({
    index,
    label: "ceilings",
    ...(disableRobustness === undefined ? {} : { disableRobustness }),
  });
  try {
    const readGBps = await measureRead(device);
    const mapLatencyUs = await measureMap(device);
    const fmaTflops = await measureFma(device);
    const matrixTflops = await measureMatrixOrNone(device);
    return { readGBps, fmaTflops, matrixTflops, ...(await measureDispatch(device)), mapLatencyUs };
  } finally {
    await device.destroy();
  }
}

/** The faster of lanes and tensor cores, 1e12 operations a second. */
export function peakTflops({ fmaTflops, matrixTflops }: Ceilings): number {
  return Math.max(fmaTflops, matrixTflops ?? 0);
}

/** Best of several reads of a large buffer, 1e9 bytes a second. */
export async function measureRead(device: Device): Promise<number> {
  const { limits, isSoftware } = device.info;
  const wanted = isSoftware ? READ_BYTES.software : READ_BYTES.hardware;
  const sizeBytes = Math.min(wanted, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const x = device.empty([Math.floor(sizeBytes / 16) * 4], "u32", "bandwidth");
  const lanes = workgroupSize(device.info, 256);
  const out = device.empty([readWorkgroups(x.numElements, lanes)], "u32", "sums");
  const { launchUs } = await timeLaunches(device, (rec) => {
    for (let i = 0; i < 2; i++) readBandwidth(rec, { x, out });
  });
  device.free(x);
  device.free(out);
  return x.sizeBytes / (Math.min(...launchUs) * 1e3);
}

/** Median time of a small copy to a kept staging buffer, from encode to the mapped bytes. */
export async function measureMap(device: Device): Promise<number> {
  const small = device.empty([4]);
  const list = await device.finish(
    device.record((rec) => {
      rec.hostOp({
        label: "map",
        downloads: [small],
        run: async (io) => {
          await io.download(0);
        },
      });
    }),
  );
  const times: number[] = [];
  for (let repeat = 0; repeat < NUM_MAPS; repeat++) {
    const begin = performance.now();
    await list.replay(liveRows(1));
    times.push((performance.now() - begin) * 1000);
  }
  list.destroy();
  device.free(small);
  return median(times);
}

async function measureFma(device: Device): Promise<number> {
  const { isSoftware } = device.info;
  const out = device.empty([isSoftware ? 64 : 8192], "f32", "fma");
  const args = { out, loops: isSoftware ? 256 : 2048 };
  const { launchUs } = await timeLaunches(device, (rec) => {
    fmaRate(rec, args);
    fmaRate(rec, args);
  });
  device.free(out);
  return fmaOperations(args, fmaLanes(device.info)) / (Math.min(...launchUs) * 1e6);
}

/** A ceiling only: a driver that cannot compile its kernel costs the figure, not the run. */
async function measureMatrixOrNone(device: Device): Promise<number | null> {
  if (!hasMatrixKernel(device.info)) return null;
  try {
    return await measureMatrix(device);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    createLogger("bench").warn(`no ceiling of matrices: ${messageOf(error)}`);
    return null;
  }
}

async function measureMatrix(device: Device): Promise<number> {
  const out = device.empty([2048, MATRIX_RESULT_ELEMENTS], "f32", "matrix");
  const args = { out, loops: 2048 };
  const { launchUs } = await timeLaunches(device, (rec) => {
    matrixRate(rec, args);
    matrixRate(rec, args);
  });
  device.free(out);
  return matrixOperations(args) / (Math.min(...launchUs) * 1e6);
}

async function measureDispatch(device: Device): Promise<Pick<Ceilings, "dispatchUs" | "encodeUs">> {
  const x = device.empty([1], "u32", "tiny");
  const { launchUs, encodeUs } = await timeLaunches(device, (rec) => {
    for (let i = 0; i < NUM_DISPATCHES; i++) tinyDispatch(rec, { x });
  });
  device.free(x);
  return { dispatchUs: median(launchUs), encodeUs };
}
