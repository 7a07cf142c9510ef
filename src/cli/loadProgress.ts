/** What a user sees while a model loads: the plan, then progress of weights and pipelines. */
import { relative } from "node:path";
import { MultiBar, type SingleBar } from "cli-progress";
import type { LayoutReport, LoadEvents, LoadProgressEvent } from "../runtime/engineArgs.ts";
import type { Output } from "./context.ts";
import type { KvPlan } from "../runtime/kvBudget.ts";
import { formatMemory } from "./memoryTable.ts";
import { formatMB, formatRange, formatTable } from "./table.ts";

type Phase = LoadProgressEvent["phase"];

const PHASE_LABELS: Readonly<Record<Phase, string>> = {
  weights: "Loading weights",
  pipelines: "Compiling pipelines",
};
/** In a log a line about progress comes at most this often. */
const LINE_INTERVAL_MS = 5000;

/** One phase over all ranks heard of. */
interface PhaseProgress {
  readonly done: number;
  readonly total: number;
}

/** Adds up the ranks' events, phase by phase. */
export class RankTotals {
  readonly #events = new Map<string, LoadProgressEvent>();

  add(event: LoadProgressEvent): PhaseProgress {
    this.#events.set(`${event.phase} ${event.rank}`, event);
    const same = [...this.#events.values()].filter(({ phase }) => phase === event.phase);
    const sum = (field: "done" | "total"): number =>
      same.reduce((total, each) => total + each[field], 0);
    return { done: sum("done"), total: sum("total") };
  }
}

/** `4.1/5.4 MB` or `7/17`. */
function describeProgress(phase: Phase, { done, total }: PhaseProgress): string {
  return phase === "weights" ? `${formatMB(done)}/${formatMB(total)} MB` : `${done}/${total}`;
}

/** Shows how far each phase is. */
interface ProgressView {
  update(phase: Phase, progress: PhaseProgress): void;
  stop(): void;
}

/** Bars that redraw in place. */
function barView(stderr: Output): ProgressView {
  const multi = new MultiBar({
    stream: stderr,
    format: "{label} {bar} {amount}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 30,
    hideCursor: false, // this and linewrap leave the terminal as it is, even when killed
    linewrap: true,
    gracefulExit: false, // signals are StopRequest's
  });
  const bars = new Map<Phase, SingleBar>();
  return {
    update(phase, progress): void {
      const label = PHASE_LABELS[phase].padEnd(PHASE_LABELS.pipelines.length);
      const payload = { label, amount: describeProgress(phase, progress) };
      const known = bars.get(phase);
      if (known === undefined) {
        bars.set(phase, multi.create(progress.total, progress.done, payload));
        return;
      }
      known.setTotal(progress.total);
      known.update(progress.done, payload);
    },
    stop: () => multi.stop(),
  };
}

/** Lines for a log: now and then one, and one with the end of each phase. */
function lineView(stderr: Output, now: () => number): ProgressView {
  const lastLineMs = new Map<Phase, number>();
  const unsaid = new Map<Phase, string>(); // in the order of the phases
  const sayAll = (): void => {
    for (const text of unsaid.values()) stderr.write(`${text}\n`);
    unsaid.clear();
  };
  return {
    update(phase, progress): void {
      const text = `${PHASE_LABELS[phase]}: ${describeProgress(phase, progress)}`;
      const nowMs = now();
      const sinceMs = nowMs - (lastLineMs.get(phase) ?? nowMs);
      if (!lastLineMs.has(phase)) lastLineMs.set(phase, nowMs);
      unsaid.set(phase, text);
      if (sinceMs < LINE_INTERVAL_MS) return;
      lastLineMs.set(phase, nowMs);
      sayAll();
    },
    stop: sayAll,
  };
}

/** The events to give to the runtime, and what ends the display. */
export interface LoadDisplay {
  readonly events: LoadEvents;
  /** Call it before anything else is written; later progress is not shown. */
  readonly stop: () => void;
}

/** Plan and progress on stderr; with `isQuiet` nothing. */
export function showLoading(
  stderr: Output,
  isQuiet: boolean,
  now: () => number = () => performance.now(),
): LoadDisplay {
  if (isQuiet) return { events: {}, stop: () => undefined };
  const totals = new RankTotals();
  let view: ProgressView | undefined;
  let isStopped = false;
  const stop = (): void => {
    isStopped = true;
    view?.stop();
    view = undefined;
  };
  const onProgress = (event: LoadProgressEvent): void => {
    const progress = totals.add(event);
    if (isStopped) return;
    view ??= stderr.isTTY === true ? barView(stderr) : lineView(stderr, now);
    view.update(event.phase, progress);
  };
  const onLayout = (layout: LayoutReport): void => {
    stderr.write(`${formatPlan(layout)}\n`);
  };
  const onReady = (kvPlan: KvPlan): void => {
    stop();
    stderr.write(`${formatMemory(kvPlan)}\n`);
  };
  return { events: { onLayout, onProgress, onReady }, stop };
}

/** The model, and a row for each rank: where it runs and what it holds. */
export function formatPlan(layout: LayoutReport): string {
  const { tpSize, ppSize, executor, dtype, kvCacheDType, maxModelLen, ranks } = layout;
  const model = `${shortPath(layout.model)}: weights ${dtype}, KV cache ${kvCacheDType}, ${maxModelLen} tokens`;
  const ranksText = `tp ${tpSize} x pp ${ppSize} = ${ranks.length} ${ranks.length === 1 ? "rank" : "ranks"}, ${executor}`;
  const columns = [
    { title: "rank", isFigure: true },
    { title: "device" },
    { title: "layers" },
    { title: "heads" },
    { title: "KV heads" },
    { title: "vocabulary" },
    { title: "MB", isFigure: true },
  ];
  const rows = ranks.map((rank) => [
    String(rank.rank),
    `${rank.deviceIndex} ${rank.deviceName}`,
    formatRange(rank.layers),
    formatRange(rank.heads),
    formatRange(rank.kvHeads),
    formatRange(rank.vocab),
    formatMB(rank.weightBytes),
  ]);
  const lines = [model, ranksText, formatTable(columns, rows)];
  if (ranks.some(({ isVirtual }) => isVirtual)) {
    lines.push("Ranks on the same device are virtual devices: they try a layout out, not faster.");
  }
  return lines.join("\n");
}

/** A path as a user would type it: relative where it lies in the working directory. */
export function shortPath(path: string): string {
  const fromHere = relative("", path);
  return fromHere === "" || fromHere.startsWith("..") ? path : fromHere;
}
