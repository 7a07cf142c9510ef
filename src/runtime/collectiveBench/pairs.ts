/** `verify-setup` on one rank: every ordered pair of ranks in turn, then an all-reduce of all. */
import { DeviceCommunicator } from "../../collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import { createGroup, worldGroup } from "../../collectives/processGroup.ts";
import type { Transport } from "../../collectives/transport/transport.ts";
import { CollectiveAbortedError, CollectiveError, messageOf } from "../../common/errors.ts";
import { median } from "../../common/math.ts";
import type { Device, Tensor } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import { prepareDeviceCase } from "./deviceOps.ts";
import { countWrong, fillInput, inputAt } from "./expectedData.ts";

export interface PairOptions {
  readonly timeoutMs: number;
  /** Of the message whose time is called latency, and of the one whose rate is called bandwidth. */
  readonly smallBytes: number;
  readonly largeBytes: number;
  readonly repeats: number;
}

export const DEFAULT_PAIR_OPTIONS: PairOptions = {
  timeoutMs: 30_000,
  smallBytes: 64,
  largeBytes: 4 << 20,
  repeats: 5,
};

/** Of a subgroup: the upper half, which nothing else uses here. */
const BYSTANDERS_NAMESPACE = 40;

/** From memory of one device to memory of the other, until the receiver's word that it has arrived. */
export interface PairResult {
  readonly from: number;
  readonly to: number;
  readonly latencyUs: number;
  readonly bandwidthGBps: number;
}

export interface PairFailure {
  /** Null where the all-reduce failed, not a pair. */
  readonly pair: { readonly from: number; readonly to: number } | null;
  readonly message: string;
  /** Another rank failed first; its own report says why. */
  readonly isEcho: boolean;
}

export interface PairReport {
  readonly rank: number;
  /** Measured by their senders. */
  readonly pairs: readonly PairResult[];
  /** Bytes and wrong elements of each all-reduce. */
  readonly smoke: readonly { readonly sizeBytes: number; readonly wrong: number }[];
  readonly failure: PairFailure | null;
}

/** All ranks call it with the same options. It throws nothing: a failure is part of the report. */
export async function checkPairs(
  transport: Transport,
  device: Device,
  options: PairOptions,
): Promise<PairReport> {
  const { rank, worldSize } = transport;
  const host = new HostCommunicator(worldGroup(transport), { timeoutMs: options.timeoutMs });
  // Who is not of a pair waits for it longer than its members do, so that it is they who find out.
  const group = createGroup(transport, "bystanders", transport.worldRanks, BYSTANDERS_NAMESPACE);
  const bystanders = new HostCommunicator(group, { timeoutMs: 4 * options.timeoutMs });
  const check = new PairCheck(host, device, options);
  const [pairs, smoke]: [PairResult[], PairReport["smoke"][number][]] = [[], []];
  let pair: PairFailure["pair"] = null;
  try {
    for (const each of orderedPairs(worldSize)) {
      pair = each;
      const result = await check.measure(each.from, each.to);
      if (result !== undefined) pairs.push(result);
      await bystanders.barrier();
    }
    pair = null;
    for (const sizeBytes of [options.smallBytes, 16 * 1024, options.largeBytes]) {
      smoke.push(await check.smoke(sizeBytes));
    }
    await bystanders.barrier();
    return { rank, pairs, smoke, failure: null };
  } catch (error) {
    transport.abort({ rank, reason: messageOf(error) });
    const isEcho = error instanceof CollectiveAbortedError;
    return { rank, pairs, smoke, failure: { pair, message: messageOf(error), isEcho } };
  }
}

export function orderedPairs(worldSize: number): { from: number; to: number }[] {
  const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
  return ranks.flatMap((from) => ranks.filter((to) => to !== from).map((to) => ({ from, to })));
}

class PairCheck {
  readonly #host: HostCommunicator;
  readonly #device: Device;
  readonly #options: PairOptions;

  constructor(host: HostCommunicator, device: Device, options: PairOptions) {
    this.#host = host;
    this.#device = device;
    this.#options = options;
  }

  /** A result on the sender; the other ranks have none. */
  async measure(from: number, to: number): Promise<PairResult | undefined> {
    const { smallBytes, largeBytes } = this.#options;
    const smallUs = await this.#transfer(from, to, smallBytes);
    const largeUs = await this.#transfer(from, to, largeBytes);
    if (this.#host.rank !== from) return undefined;
    return { from, to, latencyUs: smallUs, bandwidthGBps: largeBytes / (largeUs * 1e3) };
  }

  /** A checked all-reduce of all ranks. */
  async smoke(asked: number): Promise<{ sizeBytes: number; wrong: number }> {
    const comm = new DeviceCommunicator(this.#host);
    const what = { op: "all_reduce", algorithm: "oneShot", sizeBytes: asked } as const;
    const prepared = await prepareDeviceCase(this.#device, comm, what);
    const { sizeBytes } = prepared;
    const wrong = await prepared.check();
    prepared.destroy();
    if (wrong > 0) {
      throw new CollectiveError(
        `all-reduce of ${sizeBytes} bytes on rank ${this.#host.rank}: expected the sum over the ranks, got ${wrong} wrong elements`,
      );
    }
    return { sizeBytes, wrong };
  }

  /** The median time in µs, on the sender; 0 elsewhere. */
  async #transfer(from: number, to: number, sizeBytes: number): Promise<number> {
    const { rank } = this.#host;
    if (rank !== from && rank !== to) return 0;
    const count = sizeBytes / 4;
    const x = this.#device.empty([count, 1], "f32", "verify-setup");
    try {
      if (rank === to) {
        await this.#receive(x, from);
        return 0;
      }
      const input = new Float32Array(count);
      fillInput(input, rank);
      this.#device.write(x, new Uint8Array(input.buffer));
      return await this.#send(x, to);
    } finally {
      this.#device.free(x);
    }
  }

  async #send(x: Tensor, to: number): Promise<number> {
    const comm = new DeviceCommunicator(this.#host);
    const list = await this.#device.finish(
      this.#device.record((rec) => {
        comm.send(rec, "verify-setup", x, to);
      }),
    );
    const times: number[] = [];
    for (let repeat = 0; repeat <= this.#options.repeats; repeat++) {
      const begin = performance.now();
      await list.replay(liveRows(x.numElements));
      await this.#host.recvBytes(to);
      if (repeat > 0) times.push(1000 * (performance.now() - begin)); // the first one warms up
    }
    list.destroy();
    return median(times);
  }

  async #receive(x: Tensor, from: number): Promise<void> {
    const comm = new DeviceCommunicator(this.#host);
    const list = await this.#device.finish(
      this.#device.record((rec) => {
        comm.recv(rec, "verify-setup", x, from);
      }),
    );
    for (let repeat = 0; repeat <= this.#options.repeats; repeat++) {
      await list.replay(liveRows(x.numElements));
      if (repeat === 0) await this.#compare(x, from);
      await this.#host.send(from, new Uint8Array(4));
    }
    list.destroy();
  }

  async #compare(x: Tensor, from: number): Promise<void> {
    const wrong = countWrong(await this.#device.read(x), (i) => inputAt(i, from));
    if (wrong === 0) return;
    throw new CollectiveError(
      `rank ${from} to rank ${this.#host.rank}: expected what was sent, got ${wrong} of ${x.numElements} elements wrong`,
    );
  }
}
