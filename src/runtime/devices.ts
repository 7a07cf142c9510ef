/** The adapters of this machine, and what they measure. */
import type { AdapterInfo } from "../device/device.ts";
import { NodeOpener } from "../device/openNode.ts";
import { measureMap, measureRead } from "./bench/ceilings.ts";

export interface DeviceMeasurement {
  /** Bytes read a second, 1e9, by a kernel that reads one large buffer. */
  readonly readBandwidthGBps: number;
  /** Median time from submit to a mapped small buffer. */
  readonly mapLatencyUs: number;
}

/** Every adapter, in the order of `--devices`, with the GPU behind it where the machine can tell. */
export async function listDevices(): Promise<readonly AdapterInfo[]> {
  return await new NodeOpener().list({ identify: true });
}

/** Names of all adapters, before TANDEM_VISIBLE_DEVICES. */
export { adapterNames } from "../device/adaptersNode.ts";

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
