/** One rank's part of the benchmark: all cases of its world, in step with the other ranks. */
import { DeviceCommunicator } from "../../collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import type { ParallelState } from "../../collectives/parallelState.ts";
import { initDistributedEnvironment } from "../../collectives/parallelState.ts";
import { type Algorithm, ALGORITHMS } from "../../collectives/signature.ts";
import type { Transport } from "../../collectives/transport/transport.ts";
import { messageOf } from "../../common/errors.ts";
import type { Device } from "../../device/device.ts";
import {
  type BenchCase,
  type BenchMemory,
  type BenchTransport,
  busFactor,
  type CollectiveRow,
  hostBytesOf,
  rowOf,
} from "./benchPlan.ts";
import { DeviceBound, describeDevice } from "./deviceBound.ts";
import { prepareDeviceCase } from "./deviceOps.ts";
import { HostBound } from "./hostBound.ts";
import { type PreparedCase, prepareHostCase } from "./hostOps.ts";
import { timeTogether } from "./timing.ts";

/** What all ranks of a world are told; plain data. */
export interface WorldPlan {
  readonly transport: BenchTransport;
  readonly memory: BenchMemory;
  readonly cases: readonly BenchCase[];
  readonly budgetMs: number;
  /** Bytes that all ranks together may take on the host. */
  readonly maxHostBytes: number;
}

/** Told by rank 0 as it goes. */
export interface BenchEvents {
  readonly onRow: (row: CollectiveRow) => void;
  /** What the machine does by itself, for the bounds. */
  readonly onNote: (note: string) => void;
  /** Why a case was left out. */
  readonly onSkip: (skipped: BenchCase, reason: string) => void;
}

/** Past every cache, and small enough for every device. */
const PROBE_BYTES = 16 << 20;
/** A case is left out once the first call of it would take longer. */
const MAX_CALL_SECONDS = 5;
/** Also where ranks outnumber cores by far and compile in turn. */
const TIMEOUT_MS = 120_000;

/** All ranks of the world call it with the same plan. */
export async function benchRank(
  transport: Transport,
  device: Device | undefined,
  plan: WorldPlan,
  events: BenchEvents,
): Promise<void> {
  const state = initDistributedEnvironment(transport, { timeoutMs: TIMEOUT_MS });
  const bench = new RankBench(state, device, plan, events);
  await bench.connect();
  const note = await bench.describeMachine();
  if (transport.rank === 0) events.onNote(note);
  for (const each of plan.cases) await bench.run(each);
  await state.getWorldGroup().barrier();
}

class RankBench {
  readonly #state: ParallelState;
  readonly #control: HostCommunicator;
  readonly #device: Device | undefined;
  readonly #plan: WorldPlan;
  readonly #events: BenchEvents;
  readonly #hostBound: HostBound;
  readonly #deviceBound: DeviceBound | undefined;
  readonly #communicators = new Map<Algorithm, DeviceCommunicator>();
  /** The last time of each operation and algorithm: larger sizes that would take too long are left out. */
  readonly #lastUs = new Map<string, { readonly sizeBytes: number; readonly us: number }>();

  constructor(
    state: ParallelState,
    device: Device | undefined,
    plan: WorldPlan,
    events: BenchEvents,
  ) {
    this.#state = state;
    this.#control = state.getWorldGroup().host;
    this.#device = device;
    this.#plan = plan;
    this.#events = events;
    this.#hostBound = new HostBound(this.#control, plan.budgetMs);
    this.#deviceBound = device === undefined ? undefined : new DeviceBound(device, plan.budgetMs);
  }

  /** A group for each algorithm: a recorded collective goes by its communicator's. */
  async connect(): Promise<void> {
    if (this.#device === undefined) return;
    for (const algorithm of ALGORITHMS) {
      const { rank } = this.#state;
      const group = await this.#state.getWorldGroup().split(0, rank, algorithm);
      if (group === undefined) continue;
      const host = new HostCommunicator(group, { algorithm, timeoutMs: TIMEOUT_MS });
      this.#communicators.set(algorithm, new DeviceCommunicator(host));
    }
  }

  /** Copy and map rates in words; the same call on all ranks. */
  async describeMachine(): Promise<string> {
    const { worldSize, rank } = this.#control;
    const rate = await this.#hostBound.copyGBps(PROBE_BYTES);
    const copies = `${worldSize} ranks at once copy ${rate.toFixed(2)} GB/s each, in and out of shared memory`;
    if (this.#device === undefined) return copies;
    const device = rank === 0 ? await describeDevice(this.#device, this.#plan.budgetMs) : "";
    await this.#control.barrier();
    return `${copies}; ${device}`;
  }

  async run(asked: BenchCase): Promise<void> {
    const tooLarge = this.#tooLarge(asked);
    if (tooLarge !== undefined) {
      this.#skip(asked, tooLarge);
      return;
    }
    const prepared = await this.#prepare(asked);
    if (prepared === undefined) return;
    try {
      await this.#measure(asked, prepared);
    } finally {
      prepared.destroy();
    }
  }

  async #measure(asked: BenchCase, prepared: PreparedCase): Promise<void> {
    const { transport, memory, budgetMs } = this.#plan;
    const { worldSize } = this.#control;
    const own = await prepared.check();
    const wrong = (await this.#control.allGather(Float32Array.of(own))).reduce((a, b) => a + b, 0);
    const { medianUs } = await timeTogether(this.#control, budgetMs, prepared.run);
    const { count, sizeBytes } = prepared;
    const boundGBps = sizeBytes === 0 ? 0 : await this.#boundOf({ ...asked, sizeBytes });
    this.#lastUs.set(`${asked.op} ${asked.algorithm}`, { sizeBytes, us: medianUs });
    const { op, algorithm } = asked;
    const what = { op, algorithm, sizeBytes, transport, memory, ranks: worldSize };
    const row = rowOf({ ...what, count, timeUs: medianUs, boundGBps, wrong });
    if (this.#control.rank === 0) this.#events.onRow(row);
  }

  /** Devices: of rank 0, while the others wait. */
  async #boundOf({ op, sizeBytes }: BenchCase): Promise<number> {
    if (this.#deviceBound === undefined) return this.#hostBound.busbwGBps(op, sizeBytes);
    await this.#control.barrier();
    const rate = this.#control.rank === 0 ? await this.#deviceBound.roundTripGBps(sizeBytes) : 0;
    await this.#control.barrier();
    return busFactor(op, this.#control.worldSize) * rate;
  }

  /** Undefined on all ranks where one of them has no room for it. */
  async #prepare(asked: BenchCase): Promise<PreparedCase | undefined> {
    let [prepared, problem]: [PreparedCase | undefined, string] = [undefined, ""];
    try {
      const comm = this.#communicators.get(asked.algorithm);
      prepared =
        this.#device === undefined || comm === undefined
          ? prepareHostCase(this.#control, asked)
          : await prepareDeviceCase(this.#device, comm, asked);
    } catch (error) {
      problem = messageOf(error);
    }
    const all = await this.#control.allGatherBytes(new TextEncoder().encode(problem));
    const first = all.find((each) => each.length > 0);
    if (first === undefined) return prepared;
    prepared?.destroy();
    this.#skip(asked, new TextDecoder().decode(first));
    return undefined;
  }

  #tooLarge(asked: BenchCase): string | undefined {
    const { worldSize } = this.#control;
    const bytes = hostBytesOf(asked, worldSize);
    if (bytes > this.#plan.maxHostBytes) {
      return `takes ${bytes} bytes over ${worldSize} ranks; ${this.#plan.maxHostBytes} are free`;
    }
    const last = this.#lastUs.get(`${asked.op} ${asked.algorithm}`);
    if (last === undefined || last.sizeBytes === 0) return undefined;
    const seconds = (last.us * asked.sizeBytes) / last.sizeBytes / 1e6;
    if (asked.sizeBytes < 2 ** 20 || seconds < MAX_CALL_SECONDS) return undefined;
    return `would take about ${seconds.toFixed(0)} s a call`;
  }

  #skip(skipped: BenchCase, reason: string): void {
    if (this.#control.rank === 0) this.#events.onSkip(skipped, reason);
  }
}
