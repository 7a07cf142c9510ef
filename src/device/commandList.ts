/** A finished recording: replayed every step with new counts, creating nothing. */
import { planArena } from "./arena.ts";
import { bindLaunch, type BoundLaunch, packParams } from "./boundLaunch.ts";
import type { Device } from "./device.ts";
import { destroySlot, HostOpRun, sharedSlot, type StagingSlot } from "./hostOpRun.ts";
import type { HostOp, RecordedOp } from "./launch.ts";
import { LIVE_SIZE_BYTES, type LiveCounts, packLiveCounts } from "./liveCounts.ts";
import { type CountedLaunch, type CountedSegment, ReplayPlan, type Segment } from "./replayPlan.ts";
import type { OnSpan, ReplayWatch } from "./replayWatch.ts";
import type { PassTimer } from "./spanTimer.ts";
import type { Tensor } from "./tensor.ts";
import { UploadQueue } from "./uploadBlocks.ts";

/** Host time of replays, in milliseconds, and what they encoded. */
export interface ReplayTimes {
  encodeMs: number;
  submitMs: number;
  hostOpMs: number;
  numLaunches: number;
  numSubmits: number;
}

export function noTimes(): ReplayTimes {
  return { encodeMs: 0, submitMs: 0, hostOpMs: 0, numLaunches: 0, numSubmits: 0 };
}

export class CommandList {
  readonly #device: Device;
  readonly #segments: readonly Segment[];
  readonly #plan: ReplayPlan;
  /** Undefined where the caller writes the counts. */
  readonly #liveBuffer: GPUBuffer | undefined;
  readonly #liveGroup: GPUBindGroup;
  readonly #buffers: readonly GPUBuffer[];
  readonly #staging: StagingSlot;
  /** Bytes of temporary tensors, over all arena buffers. */
  readonly arenaBytes: number;
  /** Settles when the detached host operations of all replays so far have; never rejects unobserved. */
  detached: Promise<void> = Promise.resolve();
  readonly times = noTimes();

  private constructor(
    device: Device,
    ops: readonly RecordedOp[],
    maxInFlight: number,
    live: Tensor | undefined,
  ) {
    this.#device = device;
    const plan = planArena(ops);
    const arena = plan.colorSizes.map((size, color) => device.createBuffer(size, `arena ${color}`));
    for (const { storage, color, offsetBytes } of plan.placements) {
      const buffer = arena[color];
      if (buffer !== undefined) storage.place(buffer, offsetBytes);
    }
    this.arenaBytes = plan.colorSizes.reduce((total, size) => total + size, 0);
    let counts = live?.binding();
    if (counts === undefined) {
      this.#liveBuffer = device.createUniform(LIVE_SIZE_BYTES, "live counts");
      counts = { buffer: this.#liveBuffer };
    }
    this.#liveGroup = device.createLiveGroup(counts);
    const launches = ops.filter((op) => op.kind === "launch");
    const params = packParams(device, launches);
    const bound = new Map(
      launches.map((launch, index) => [launch, bindLaunch(device, launch, params, index)]),
    );
    this.#staging = sharedSlot(
      device,
      ops.filter((op) => op.kind === "hostOp"),
    );
    const hostOpRun = (op: HostOp): HostOpRun =>
      new HostOpRun(device, op, maxInFlight, this.#staging);
    this.#segments = splitSegments(ops, bound, hostOpRun);
    this.#plan = new ReplayPlan(this.#segments);
    this.#buffers = [...arena, ...(this.#liveBuffer ? [this.#liveBuffer] : []), params];
  }

  /**
   * Compiles what is missing, places the arena, creates all bind groups. `maxInFlight` replays may
   * wait for detached operations at once; all else is shared between replays, as the queue orders them.
   * Counts are written to a buffer of the list's own, or by the caller to `live`: [12] u32, in one write with what else
   * a step uploads, as each is a copy that the GPU's launches wait for.
   */
  static async finish(
    device: Device,
    ops: readonly RecordedOp[],
    maxInFlight: number,
    live?: Tensor,
  ): Promise<CommandList> {
    const entries = new Set(ops.filter((op) => op.kind === "launch").map((op) => op.pipeline));
    await Promise.all([...entries].map((entry) => entry.ready));
    return await device.guard("recording", () => new CommandList(device, ops, maxInFlight, live));
  }

  /** Launches recorded, live or not. */
  get numLaunches(): number {
    return this.#segments.reduce((total, { launches }) => total + launches.length, 0);
  }

  /**
   * Encodes and submits every segment, runs the host operations between them, and returns once
   * all but the detached ones are done. Segment k+1 is encoded while host operation k runs.
   * Where the caller writes the counts, `live` is what it has written since the last replay.
   * With a timer, each launch gets its own timed pass (slower: for profiles only), unless the timer spans
   * the pass. A watch is told what
   * happens, and may hold up submits.
   */
  async replay(live: LiveCounts, timer?: PassTimer, watch: ReplayWatch = {}): Promise<void> {
    this.#device.numReplays += 1;
    try {
      await this.#replay(live, timer, watch);
    } finally {
      this.#device.numReplays -= 1;
    }
  }

  async #replay(live: LiveCounts, timer: PassTimer | undefined, watch: ReplayWatch): Promise<void> {
    const { onSpan } = watch;
    const segments = this.#plan.segments(live);
    for (const { hostOp } of segments) await hostOp?.nextSlot();
    this.#device.check();
    const detached = [this.detached];
    if (this.#liveBuffer !== undefined) {
      this.#device.gpu.queue.writeBuffer(this.#liveBuffer, 0, packLiveCounts(live));
    }
    let commands = this.#encode(segments[0], live, timer, onSpan);
    const uploads = new UploadQueue();
    for (const [index, { hostOp }] of segments.entries()) {
      const held = watch.beforeSubmit?.(index);
      if (held !== undefined) await held;
      this.#device.check(); // a map asked of a device that is gone would never settle
      this.#submit([...uploads.take(), commands], onSpan);
      watch.submitted?.(index);
      commands = undefined;
      const running = hostOp?.start(live, onSpan);
      if (hostOp?.hasCopies(live) === true) uploads.recycle();
      const next = segments[index + 1];
      if (next !== undefined) commands = this.#encode(next, live, timer, onSpan);
      if (running === undefined) continue;
      if (hostOp?.detached === true) detached.push(running);
      else await this.#timed("hostOpMs", running);
      uploads.add(hostOp?.takeUploads());
    }
    this.#submit(uploads.take(), onSpan);
    uploads.recycle();
    if (detached.length > 1) {
      this.detached = Promise.all(detached).then(() => undefined);
      this.detached.catch((error: unknown) => {
        this.#device.fail(error);
      });
    }
    this.#device.check();
  }

  /**
   * Dispatches every pipeline that the device has not run yet, with no workgroups: nothing is read or
   * written. Some drivers (lavapipe) compile to machine code at the first dispatch, seconds for a model:
   * time that would count as the first token's, and against the deadline of ranks that wait.
   */
  async warmUp(progress?: (label: string) => void): Promise<void> {
    const { gpu, pipelines } = this.#device;
    // Indirect, as Dawn warns of counts that are zero; a new buffer holds zeros.
    const noWorkgroups = gpu.createBuffer({ label: "no workgroups", size: 12, usage: 0x0100 });
    for (const { launch, pipeline, bindGroup } of this.#segments.flatMap((s) => s.launches)) {
      if (!pipelines.claimWarmUp(launch.pipeline)) continue;
      const encoder = gpu.createCommandEncoder({ label: `warm up ${launch.label}` });
      const pass = encoder.beginComputePass();
      pass.setBindGroup(0, this.#liveGroup);
      pass.setPipeline(pipeline);
      pass.setBindGroup(1, bindGroup);
      pass.dispatchWorkgroupsIndirect(noWorkgroups, 0);
      pass.end();
      gpu.queue.submit([encoder.finish()]);
      await this.#device.idle();
      progress?.(launch.label);
    }
    noWorkgroups.destroy();
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
    for (const { hostOp } of this.#segments) hostOp?.destroy();
    destroySlot(this.#staging);
  }

  async #timed(field: "hostOpMs", work: Promise<void>): Promise<void> {
    const start = performance.now();
    await work;
    this.times[field] += performance.now() - start;
  }

  #submit(asked: readonly (GPUCommandBuffer | undefined)[], onSpan: OnSpan | undefined): void {
    const commands = asked.filter((each) => each !== undefined);
    if (commands.length === 0) return;
    const start = performance.now();
    this.#device.gpu.queue.submit(commands);
    this.#device.counters.submits += 1;
    this.times.numSubmits += 1;
    this.times.submitMs += performance.now() - start;
    onSpan?.("host", "submit", start);
  }

  #encode(
    segment: CountedSegment | undefined,
    live: LiveCounts,
    timer: PassTimer | undefined,
    onSpan: OnSpan | undefined,
  ): GPUCommandBuffer | undefined {
    if (segment === undefined) return undefined;
    const start = performance.now();
    const { launches } = segment;
    const hasCopies = segment.hostOp?.hasCopies(live) ?? false;
    if (launches.length === 0 && !hasCopies) return undefined;
    const encoder = this.#device.gpu.createCommandEncoder();
    if (timer === undefined || timer.spansPass === true) this.#encodePass(encoder, launches, timer);
    else for (const one of launches) this.#encodePass(encoder, [one], timer);
    segment.hostOp?.encodeCopies(encoder, live);
    const commands = encoder.finish();
    this.times.encodeMs += performance.now() - start;
    onSpan?.("host", "encode", start);
    this.times.numLaunches += launches.length;
    this.#device.counters.launches += launches.length;
    return commands;
  }

  #encodePass(
    encoder: GPUCommandEncoder,
    launches: readonly CountedLaunch[],
    timer?: PassTimer,
  ): void {
    if (launches.length === 0) return;
    const timestampWrites = timer?.next(launches[0]?.label ?? "");
    const pass = encoder.beginComputePass(
      timestampWrites === undefined ? undefined : { timestampWrites },
    );
    pass.setBindGroup(0, this.#liveGroup);
    let current: GPUComputePipeline | undefined;
    for (const { pipeline, bindGroup, x, y, z } of launches) {
      if (pipeline !== current) pass.setPipeline(pipeline);
      current = pipeline;
      pass.setBindGroup(1, bindGroup);
      pass.dispatchWorkgroups(x, y, z);
    }
    pass.end();
  }
}

function splitSegments(
  ops: readonly RecordedOp[],
  bound: ReadonlyMap<RecordedOp, BoundLaunch>,
  hostOpRun: (op: HostOp) => HostOpRun,
): Segment[] {
  const segments: Segment[] = [];
  let launches: BoundLaunch[] = [];
  const close = (op?: HostOp): void => {
    const hostOp = op === undefined ? undefined : hostOpRun(op);
    segments.push({ launches, hostOp });
    launches = [];
  };
  for (const op of ops) {
    if (op.kind === "hostOp") close(op);
    else {
      const launch = bound.get(op);
      if (launch !== undefined) launches.push(launch);
    }
  }
  if (launches.length > 0) close();
  return segments;
}
