/**
 * The stages of a device all-reduce, by the clock of each rank: encode and submit; until the partial is
 * mapped; its copy into the transport; waiting for the other ranks; their upload.
 */
import { quantile } from "../../common/math.ts";
import { DeviceCommunicator } from "../../collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../../collectives/hostCommunicator.ts";
import { createGroup, worldGroup } from "../../collectives/processGroup.ts";
import type { Guard, Message, Transport, UseChunk } from "../../collectives/transport/transport.ts";
import type { Device } from "../../device/device.ts";
import { liveRows } from "../../device/liveCounts.ts";
import { gatherRows } from "../../kernels/gatherRows.ts";
import { measureRoundTrip, type RoundTrip, spreadOf } from "./deviceBound.ts";

export const STAGES = ["submit", "map", "copy", "wait", "upload", "total"] as const;
/** `slowest`: of as many ranks as there are, the last one's total, if their times are independent. */
export type Stage = (typeof STAGES)[number] | "slowest";

export interface StageRow {
  /**
   * The all-reduce; the round trip of every rank at once without any exchange, which is what sharing
   * cores and adapters costs; and rank 0's while the others do nothing.
   */
  readonly what: "all_reduce" | "no exchange" | "one rank alone";
  readonly stage: Stage;
  readonly p50Us: number;
  readonly p99Us: number;
}

export interface Breakdown {
  readonly ranks: number;
  readonly sizeBytes: number;
  readonly rows: readonly StageRow[];
}

export type StageSamples = Record<(typeof STAGES)[number], number[]>;

function noSamples(): StageSamples {
  return { submit: [], map: [], copy: [], wait: [], upload: [], total: [] };
}

/** Times what a transport does inside one all-reduce, and changes nothing. */
class StageClock implements Transport {
  readonly kind: Transport["kind"];
  readonly rank: number;
  readonly worldSize: number;
  readonly worldRanks: readonly number[];
  readonly hosts: readonly number[];
  readonly control: Transport["control"];
  readonly #inner: Transport;
  /** Of the last operation: when it began to publish, and time within the publishing and the using. */
  publishedAt = 0;
  copyMs = 0;
  useMs = 0;

  constructor(inner: Transport) {
    this.kind = inner.kind;
    this.rank = inner.rank;
    this.worldSize = inner.worldSize;
    this.worldRanks = inner.worldRanks;
    this.hosts = inner.hosts;
    this.control = inner.control;
    this.#inner = inner;
  }

  reset(): void {
    [this.publishedAt, this.copyMs, this.useMs] = [0, 0, 0];
  }

  publish(
    message: Message,
    bytes: Uint8Array,
    readers: readonly number[],
    guard: Guard,
  ): Promise<void> {
    const begin = performance.now();
    if (this.publishedAt === 0) this.publishedAt = begin;
    const published = this.#inner.publish(message, bytes, readers, guard);
    this.copyMs += performance.now() - begin; // what fits is copied before the call returns
    return published;
  }

  send(to: number, message: Message, bytes: Uint8Array, guard: Guard): Promise<void> {
    return this.#inner.send(to, message, bytes, guard);
  }

  recv(from: number, tag: number, use: UseChunk, guard: Guard): Promise<void> {
    const timed: UseChunk = (chunk) => {
      const begin = performance.now();
      use(chunk);
      this.useMs += performance.now() - begin;
    };
    if (this.publishedAt === 0) this.publishedAt = performance.now();
    return this.#inner.recv(from, tag, timed, guard);
  }

  abort(cause: Parameters<Transport["abort"]>[0]): void {
    this.#inner.abort(cause);
  }

  close(): void {
    this.#inner.close();
  }
}

/** Repeats the one-shot all-reduce of `sizeBytes` on all ranks; returns this rank's samples in µs. */
export async function sampleStages(
  transport: Transport,
  device: Device,
  sizeBytes: number,
  budgetMs: number,
): Promise<StageSamples> {
  const clock = new StageClock(transport);
  const group = createGroup(clock, "breakdown", clock.worldRanks, BREAKDOWN_NAMESPACE);
  const host = new HostCommunicator(group, { algorithm: "oneShot", timeoutMs: 60_000 });
  const columns = Math.max(4, 4 * Math.floor(sizeBytes / 16));
  const x = device.empty([1, columns], "f32", "bench input");
  const indices = device.upload(new Uint32Array(1), [1], "u32", "bench rows");
  const recorder = device.record((rec) => {
    new DeviceCommunicator(host).allReduce(rec, "bench", [1, columns], (out) => {
      gatherRows(rec, { x, indices, out });
    });
  });
  const list = await device.finish(recorder);
  const live = liveRows(1);
  const samples = noSamples();
  const numRepeats = await agreedRepeats(host, budgetMs, () => list.replay(live));
  for (let i = 0; i < numRepeats; i++) {
    clock.reset();
    const { encodeMs, submitMs } = list.times;
    const begin = performance.now();
    await list.replay(live);
    const end = performance.now();
    const submit = list.times.encodeMs + list.times.submitMs - encodeMs - submitMs;
    const { publishedAt, copyMs, useMs } = clock;
    samples.submit.push(1000 * submit);
    samples.map.push(1000 * (publishedAt - begin - submit));
    samples.copy.push(1000 * copyMs);
    samples.upload.push(1000 * useMs);
    samples.wait.push(1000 * (end - publishedAt - copyMs - useMs));
    samples.total.push(1000 * (end - begin));
  }
  await host.barrier();
  list.destroy();
  for (const tensor of [x, indices]) device.free(tensor);
  return samples;
}

/** Of a subgroup: the upper half, which nothing else uses here. */
const BREAKDOWN_NAMESPACE = 40;
const [MIN_REPEATS, MAX_REPEATS] = [20, 2000];

async function agreedRepeats(
  host: HostCommunicator,
  budgetMs: number,
  run: () => Promise<void>,
): Promise<number> {
  for (let i = 0; i < 5; i++) await run();
  const begin = performance.now();
  await run();
  const [estimateMs = 1] = await host.broadcast(Float64Array.of(performance.now() - begin), 0);
  return Math.max(MIN_REPEATS, Math.min(MAX_REPEATS, Math.floor(budgetMs / estimateMs)));
}

interface RankSamples {
  readonly own: StageSamples;
  readonly apart: RoundTrip;
}

function tripRows(what: StageRow["what"], trips: readonly RoundTrip[]): StageRow[] {
  const parts: [Stage, (trip: RoundTrip) => readonly number[]][] = [
    ["submit", ({ submitUs }) => submitUs],
    ["map", ({ mapUs }) => mapUs],
    ["upload", ({ uploadUs }) => uploadUs],
    ["total", ({ totalUs }) => totalUs],
  ];
  return parts.map(([stage, read]) => ({ what, stage, ...spreadOf(trips.flatMap(read)) }));
}

/** What any operation costs that ends when the last rank's round trip has: the maximum of n draws. */
function slowestRow(trips: readonly RoundTrip[]): StageRow {
  const totals = trips.flatMap(({ totalUs }) => totalUs);
  const ofSlowest = (share: number): number => quantile(totals, share ** (1 / trips.length));
  return { what: "no exchange", stage: "slowest", p50Us: ofSlowest(0.5), p99Us: ofSlowest(0.99) };
}

/** All ranks' samples beside one rank's round trip, measured while the others wait. */
export async function measureBreakdown(
  transport: Transport,
  device: Device,
  sizeBytes: number,
  budgetMs: number,
): Promise<Breakdown> {
  const control = new HostCommunicator(worldGroup(transport), { timeoutMs: 60_000 });
  const alone =
    control.rank === 0 ? await measureRoundTrip(device, sizeBytes, budgetMs) : undefined;
  await control.barrier();
  const apart = await measureRoundTrip(device, sizeBytes, budgetMs); // all ranks at once
  await control.barrier();
  const own = await sampleStages(transport, device, sizeBytes, budgetMs);
  const encoded = new TextEncoder().encode(JSON.stringify({ own, apart }));
  const gathered = (await control.allGatherBytes(encoded)).map(
    (bytes) => JSON.parse(new TextDecoder().decode(bytes)) as RankSamples,
  );
  const all = gathered.map((each) => each.own);
  const rows: StageRow[] = STAGES.map((stage) => {
    const samples = all.flatMap((each) => each[stage]);
    return { what: "all_reduce", stage, ...spreadOf(samples) };
  });
  const apartTrips = gathered.map((each) => each.apart);
  rows.push(...tripRows("no exchange", apartTrips), slowestRow(apartTrips));
  if (alone !== undefined) rows.push(...tripRows("one rank alone", [alone]));
  return { ranks: control.worldSize, sizeBytes, rows };
}
