/** What a recording is made of: launches of kernels, copies, and host operations between segments. */
import type { LaunchCounts, LiveCounts } from "./liveCounts.ts";
import type { PipelineEntry } from "./pipelineCache.ts";
import type { Tensor } from "./tensor.ts";

/** Workgroups in x, y, z. */
export type WorkgroupCount = readonly [number, number, number];

/** One dispatch. Bindings: 0 the uniform `params`, then inputs (read), then outputs (read_write). */
export interface Launch {
  readonly kind: "launch";
  readonly label: string;
  readonly pipeline: PipelineEntry;
  readonly params: Uint8Array;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** Evaluated at replay; any zero skips the launch. */
  readonly workgroups: WorkgroupCount | ((live: LaunchCounts) => WorkgroupCount);
}

/** What a running HostOp may touch. Views lent by `download` die when `run` settles. */
export interface HostOpIo {
  readonly live: LiveCounts;
  /** The mapped bytes of `downloads[index]`: the live part only. */
  download(index: number): Promise<Uint8Array>;
  /** Uploads into a tensor; a view over shared memory is copied first, as Dawn cannot read one. */
  upload(tensor: Tensor, bytes: Uint8Array, offsetBytes?: number): void;
}

/**
 * A step that runs on the host between two segments, such as a collective. The commands before
 * it are submitted, its downloads are mapped, and the commands after it wait for `run`.
 */
export interface HostOp {
  readonly kind: "hostOp";
  readonly label: string;
  readonly downloads: readonly Tensor[];
  /** Live bytes of `downloads[index]` in this step; 0 maps nothing. */
  readonly downloadBytes: (live: LiveCounts, index: number) => number;
  /** Tensors that `run` uploads. */
  readonly uploads: readonly Tensor[];
  /** False in steps that do without it: nothing is copied or run, and launches around it share a submit. */
  readonly isNeeded: (live: LaunchCounts) => boolean;
  /** True where later commands need not wait for `run`; failures still surface. */
  readonly detached: boolean;
  readonly run: (io: HostOpIo) => Promise<void>;
}

/** An operation in the order of recording. */
export type RecordedOp = Launch | HostOp;

/** Tensors that an operation reads. */
export function readsOf(op: RecordedOp): readonly Tensor[] {
  return op.kind === "launch" ? op.inputs : op.downloads;
}

/** Tensors that an operation writes. */
export function writesOf(op: RecordedOp): readonly Tensor[] {
  return op.kind === "launch" ? op.outputs : op.uploads;
}
