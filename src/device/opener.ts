/** How a platform finds adapters and opens devices: openNode.ts and openBrowser.ts implement it. */
import type { TunedNumbers } from "./adapterInfo.ts";
import type { AdapterInfo, Device } from "./device.ts";

/** Options of one device. */
export interface OpenOptions {
  /** Position in `list()`. */
  readonly index: number;
  /** Shown in errors and captures, e.g. "rank 3". */
  readonly label: string;
  /** Turns off WebGPU's bounds checks; ignored on software adapters. */
  readonly disableRobustness?: boolean;
  /** Becomes a part of the device's info. */
  readonly tuned?: TunedNumbers | undefined;
  /** The thread serves this device alone: it may stop while it waits for a map. */
  readonly ownsThread?: boolean;
  /** Threads of this process that wait for devices; with as many cores or fewer, none of them spins. */
  readonly numThreads?: number;
}

export interface DeviceOpener {
  /** Every adapter, the preferred first: hardware before software. */
  list(): Promise<readonly AdapterInfo[]>;
  /** Opens a new device; several on one adapter are virtual ranks. */
  open(options: OpenOptions): Promise<Device>;
}
