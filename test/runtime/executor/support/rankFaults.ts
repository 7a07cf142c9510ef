/**
 * Preloaded (`node --import`) into every thread of a process under test: breaks a rank from within when
 * told to over a BroadcastChannel. Threads that a test starts through the product have no other way in.
 */
import { isMainThread } from "node:worker_threads";
import { HostCommunicator } from "../../../../src/collectives/hostCommunicator.ts";
import { OutOfMemoryError } from "../../../../src/common/errors.ts";
import type { Device } from "../../../../src/device/device.ts";
import type { OpenOptions } from "../../../../src/device/opener.ts";
import { NodeOpener } from "../../../../src/device/openNode.ts";

/**
 * `lose`: its device goes away. `throw`: an uncaught exception. `exit`: its thread ends. `stall`: it stops
 * answering. `exitBefore`, `exitDuring`, `exitAfter`: its thread ends as its next all-reduce is about to
 * begin, has published its part, has ended. `noDeviceMemory`: its device reports that it has none left.
 * `exhaust`: its thread allocates until its heap is full.
 */
export type RankFault =
  | "lose"
  | "throw"
  | "exit"
  | "stall"
  | "exitBefore"
  | "exitDuring"
  | "exitAfter"
  | "noDeviceMemory"
  | "exhaust";

export interface FaultMessage {
  /** As devices are labelled. */
  readonly rank: number;
  readonly fault: RankFault;
}

const CHANNEL = "rank faults";
const devices = new Map<string, Device>();

/** Breaks a rank of this process, in whichever thread it lives. */
export function breakRank(rank: number, fault: RankFault): void {
  apply({ rank, fault }); // the ranks of this thread; the channel does not speak to itself
  const channel = new BroadcastChannel(CHANNEL);
  channel.postMessage({ rank, fault } satisfies FaultMessage);
  channel.close();
}

function apply({ rank, fault }: FaultMessage): void {
  const device = devices.get(`rank ${rank}`);
  if (device === undefined) return;
  if (fault === "lose") device.gpu.destroy(); // as Dawn reports a lost device, but for the reason
  if (fault === "exit") process.exit(3);
  if (fault === "exitBefore" || fault === "exitDuring" || fault === "exitAfter") dying = fault;
  if (fault === "noDeviceMemory") {
    device.fail(new OutOfMemoryError("arena: planted: no memory left on the device"));
  }
  if (fault === "exhaust") setImmediate(fillHeap);
  if (fault === "throw") {
    setImmediate(() => {
      throw new Error("a planted exception");
    });
  }
  if (fault === "stall") {
    const forever = new Int32Array(new SharedArrayBuffer(4));
    setImmediate(() => Atomics.wait(forever, 0, 0, 20_000));
  }
}

/** Kept reachable, so that nothing of it can be collected. */
const hoard: number[][] = [];

function fillHeap(): void {
  for (;;) hoard.push(Array.from({ length: 10_000 }, (_, i) => i + 0.5));
}

/** What the rank of this thread dies of at its next all-reduce. */
let dying: RankFault | undefined;

const runDescriptor = Object.getOwnPropertyDescriptor(HostCommunicator.prototype, "run");
const runOperation = runDescriptor?.value as HostCommunicator["run"];
HostCommunicator.prototype.run = async function dyingRun(spec, body) {
  const when = spec.name === "allReduce" ? dying : undefined;
  if (when === undefined) return runOperation.call(this, spec, body) as ReturnType<typeof body>;
  if (when === "exitBefore") process.exit(3);
  const result = await runOperation.call(this, spec, (operation) => {
    const running = body(operation);
    if (when === "exitDuring") process.exit(3);
    return running;
  });
  if (when === "exitAfter") process.exit(3);
  return result as Awaited<ReturnType<typeof body>>;
};

const descriptor = Object.getOwnPropertyDescriptor(NodeOpener.prototype, "open");
const open = descriptor?.value as (this: NodeOpener, options: OpenOptions) => Promise<Device>;
NodeOpener.prototype.open = async function capture(options): Promise<Device> {
  const device = await open.call(this, options);
  devices.set(options.label, device);
  return device;
};

if (!isMainThread) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = (event: unknown): void => {
    apply((event as { readonly data: FaultMessage }).data);
  };
  (channel as unknown as { unref(): void }).unref();
}
