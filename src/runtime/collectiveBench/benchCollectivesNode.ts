/** `bench collectives` as a whole: worlds one after the other, and what the machine measures beside them. */
import { NodeOpener } from "../../device/openNode.ts";
import { dealDevices } from "../layout.ts";
import {
  type BenchCase,
  type BenchOptions,
  type BenchTransport,
  casesOf,
  type CollectiveRow,
} from "./benchPlan.ts";
import type { Breakdown } from "./breakdown.ts";
import type { RankJob, Seat, ThreadMessage, UsedDevice } from "./rankJob.ts";
import { runWorld } from "./ranksNode.ts";

/** A decode step's all-reduce of a model with a hidden size of 4,096. */
const DECODE_BYTES = 16 * 1024;
const BREAKDOWN_BUDGET_MS = 1500;
/** Of the memory that is free at the start. */
const MEMORY_SHARE = 0.5;

export interface CollectivesReport {
  readonly rows: readonly CollectiveRow[];
  readonly breakdowns: readonly Breakdown[];
  readonly notes: readonly string[];
}

/** Told while it runs. */
export interface CollectivesEvents {
  readonly onWorld?: (what: string) => void;
  readonly onRow?: (row: CollectiveRow) => void;
  /** What a reader of the figures must know: shared adapters, cases left out. */
  readonly onNote?: (note: string) => void;
}

export async function benchCollectives(
  options: BenchOptions,
  events: CollectivesEvents = {},
  signal?: AbortSignal,
): Promise<CollectivesReport> {
  const run = new CollectivesRun(events);
  const needsDevices = options.memories.includes("device") || options.breakdown;
  const adapters = needsDevices ? await new NodeOpener().list() : [];
  for (const ranks of options.ranks) {
    const dealt = needsDevices ? dealDevices(options.devices, adapters, ranks) : undefined;
    for (const transport of options.transports) {
      for (const { what, seats, job } of jobsOf(options, transport, ranks, dealt)) {
        await run.world(`${ranks} ranks, ${what}, ${transport}`, { seats, transport, job, signal });
      }
    }
  }
  return run;
}

interface NamedJob {
  readonly what: string;
  readonly seats: readonly Seat[];
  readonly job: RankJob;
}

function jobsOf(
  options: BenchOptions,
  transport: BenchTransport,
  ranks: number,
  dealt: readonly number[] | undefined,
): NamedJob[] {
  const { budgetMs } = options;
  const benches = options.memories.map((memory): NamedJob => {
    const cases = casesOf(options, memory);
    const maxHostBytes = Math.floor(process.availableMemory() * MEMORY_SHARE);
    const plan = { transport, memory, cases, budgetMs, maxHostBytes };
    const seats = seatsOf(ranks, memory === "device" ? dealt : undefined);
    return { what: `${memory} memory`, seats, job: { kind: "bench", plan } };
  });
  if (!options.breakdown) return benches;
  const stages = { sizeBytes: DECODE_BYTES, budgetMs: BREAKDOWN_BUDGET_MS };
  const job: RankJob = { kind: "breakdown", ...stages };
  return [...benches, { what: "breakdown", seats: seatsOf(ranks, dealt), job }];
}

class CollectivesRun implements CollectivesReport {
  readonly rows: CollectiveRow[] = [];
  readonly breakdowns: Breakdown[] = [];
  readonly notes: string[] = [];
  readonly #events: CollectivesEvents;

  constructor(events: CollectivesEvents) {
    this.#events = events;
  }

  async world(what: string, options: Parameters<typeof runWorld>[0]): Promise<void> {
    this.#events.onWorld?.(what);
    const used: UsedDevice[] = [];
    await runWorld(options, (message) => {
      this.#take(message, used, what);
    });
    for (const note of sharingNotes(used)) this.#note(note);
  }

  #take(message: ThreadMessage, used: UsedDevice[], world: string): void {
    if (message.kind === "row") {
      this.rows.push(message.row);
      this.#events.onRow?.(message.row);
    } else if (message.kind === "note") this.#note(`${world}: ${message.note}`);
    else if (message.kind === "skip") {
      this.#note(`${world}: left out ${describeCase(message.skipped)}: ${message.reason}`);
    } else if (message.kind === "breakdown") this.breakdowns.push(message.breakdown);
    else if (message.kind === "devices") used.push(...message.devices);
  }

  #note(note: string): void {
    if (this.notes.includes(note)) return;
    this.notes.push(note);
    this.#events.onNote?.(note);
  }
}

function describeCase({ op, algorithm, sizeBytes }: BenchCase): string {
  return `${op} ${algorithm} ${sizeBytes} bytes`;
}

/** One line an adapter that several ranks have in common. */
export function sharingNotes(used: readonly UsedDevice[]): string[] {
  const byDevice = Map.groupBy(used, ({ deviceIndex }) => deviceIndex);
  return [...byDevice.values()].flatMap((seats) => {
    const [first] = seats;
    if (first === undefined || seats.length < 2) return [];
    const ranks = seats.map(({ rank }) => rank).sort((a, b) => a - b);
    return [
      `ranks ${ranks.join(", ")} share one adapter, ${first.name} (device ${String(first.deviceIndex)}), as virtual devices: their GPU work takes turns`,
    ];
  });
}

function seatsOf(ranks: number, dealt: readonly number[] | undefined): Seat[] {
  return Array.from({ length: ranks }, (_, rank) => ({
    rank,
    deviceIndex: dealt?.[rank] ?? null,
  }));
}
