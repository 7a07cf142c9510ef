/** What is left to do for a thread's devices when the thread ends. */
import type { Device } from "./device.ts";

const devices = new Set<WeakRef<Device>>();

/**
 * Settles a device's maps when its thread ends, by process.exit() or otherwise: Dawn aborts the whole process, every
 * other thread of it too, over a map whose promise was neither resolved nor rejected.
 */
export function settleAtExit(device: Device): void {
  if (devices.size === 0) process.once("exit", settleAll);
  devices.add(new WeakRef(device));
}

function settleAll(): void {
  for (const each of devices) {
    const device = each.deref();
    device?.abandonMaps();
    device?.pump?.lookNow();
  }
}
