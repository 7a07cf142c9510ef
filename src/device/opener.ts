/** How a platform finds adapters and opens devices: openNode.ts and openBrowser.ts implement it. */
import type { AdapterInfo, Device } from "./device.ts";

/** Options of one device. */
export interface OpenOptions {
  /** Position in `list()`. */
  readonly index: number;
  /** Shown in errors and captures, e.g. "rank 3". */
  readonly label: string;
  /** Turns off WebGPU's bounds checks; ignored on software adapters. */
  readonly disableRobustness?: boolean;
}

export interface DeviceOpener {
  /** Every adapter, the preferred first: hardware before software. */
  list(): Promise<readonly AdapterInfo[]>;
  /** Opens a new device; several on one adapter are virtual ranks. */
  open(options: OpenOptions): Promise<Device>;
}
