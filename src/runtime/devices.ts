/** The adapters of this machine, and what they measure. */
import { median } from "../common/math.ts";
import type { AdapterInfo, Device } from "../device/device.ts";
import { liveRows } from "../device/liveCounts.ts";
import { NodeOpener } from "../device/openNode.ts";
import { workgroupSize } from "../kernels/kernel.ts";
import { readBandwidth, readWorkgroups } from "../kernels/readBandwidth.ts";

export interface DeviceMeasurement {
  /** Bytes read a second, 1e9, by a kernel that reads one large buffer. */
  readonly readBandwidthGBps: number;
  /** Median time from submit to a mapped small buffer. */
  readonly mapLatencyUs: number;
}

const NUM_REPEATS = 5;
/** Well past every cache that was seen (H200: 60 MB of L2), short enough for software adapters. */
const READ_BYTES = { software: 64 << 20, hardware: 1 << 30 } as const;

/** Every adapter, in the order of `--devices`. */
export async function listDevices(): Promise<readonly AdapterInfo[]> {
  return await new NodeOpener().list();
}

/** Measures one adapter by its index; takes well under a second on hardware. */
export async function measureDevice(index: number): Promise<DeviceMeasurement> {
  const device = await new NodeOpener().open({ index, label: "measure" });
  try {
    return {
      readBandwidthGBps: await measureRead(device),
      mapLatencyUs: await measureMap(device),
    };
  } finally {
    await device.destroy();
  }
}

/** Best of several reads, each long enough to hide the submit. */
async function measureRead(device: Device): Promise<number> {
  const { limits, isSoftware } = device.info;
  const wanted = isSoftware ? READ_BYTES.software : READ_BYTES.hardware;
  const sizeBytes = Math.min(wanted, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const x = device.empty([Math.floor(sizeBytes / 16) * 4], "u32", "bandwidth");
  const lanes = workgroupSize(device.info, 256);
  const out = device.empty([readWorkgroups(x.numElements, lanes)], "u32", "sums");
  const recorder = device.record((rec) => {
    readBandwidth(rec, { x, out });
  });
  const list = await device.finish(recorder);
  const times: number[] = [];
  for (let repeat = 0; repeat <= NUM_REPEATS; repeat++) {
    const begin = performance.now();
    await list.replay(liveRows(1));
    await device.idle();
    if (repeat > 0) times.push(performance.now() - begin); // the first one warms up
  }
  list.destroy();
  return x.sizeBytes / (Math.min(...times) * 1e6);
}

async function measureMap(device: Device): Promise<number> {
  const small = device.empty([4]);
  const times: number[] = [];
  for (let repeat = 0; repeat < 50; repeat++) {
    const begin = performance.now();
    await device.read(small);
    times.push((performance.now() - begin) * 1000);
  }
  return median(times);
}
