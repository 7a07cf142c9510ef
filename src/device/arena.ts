/**
 * Places the temporary tensors of one recording into a few buffers. WebGPU refuses `read` and
 * `read_write` bindings of one buffer in one dispatch, even on disjoint ranges, so tensors are
 * coloured first (a colour is a buffer), then packed by lifetime inside each colour.
 */
import { ShapeError } from "../common/errors.ts";
import { roundUp } from "../common/math.ts";
import { readsOf, type RecordedOp, writesOf } from "./launch.ts";
import { OFFSET_ALIGNMENT, type TensorStorage } from "./tensor.ts";

/** A storage with the first and last operation that touches it. */
interface Lifetime {
  readonly storage: TensorStorage;
  readonly first: number;
  last: number;
}

/** Where a storage goes. */
export interface Placement {
  readonly storage: TensorStorage;
  readonly color: number;
  readonly offsetBytes: number;
}

/** The plan of an arena: one buffer a colour. */
export interface ArenaPlan {
  readonly placements: readonly Placement[];
  /** Bytes of each colour's buffer. */
  readonly colorSizes: readonly number[];
}

/** A pure function of the recording: lifetimes, colours, offsets. */
export function planArena(ops: readonly RecordedOp[]): ArenaPlan {
  const lifetimes = findLifetimes(ops);
  const colors = colorStorages(ops, lifetimes);
  const colorSizes: number[] = [];
  const placed: (Placement & Lifetime)[] = [];
  for (const lifetime of lifetimes) {
    const color = colors.get(lifetime.storage) ?? 0;
    const neighbours = placed.filter(
      (other) => other.color === color && other.last >= lifetime.first,
    );
    const sizeBytes = roundUp(lifetime.storage.sizeBytes, OFFSET_ALIGNMENT);
    const offsetBytes = firstGap(neighbours, sizeBytes);
    placed.push({ ...lifetime, color, offsetBytes });
    colorSizes[color] = Math.max(colorSizes[color] ?? 0, offsetBytes + sizeBytes);
  }
  return { placements: placed, colorSizes };
}

function findLifetimes(ops: readonly RecordedOp[]): Lifetime[] {
  const lifetimes = new Map<TensorStorage, Lifetime>();
  ops.forEach((op, index) => {
    for (const { storage } of readsOf(op)) {
      if (storage.isPending && !lifetimes.has(storage)) {
        throw new ShapeError(`${op.label}: reads ${storage.label}, which nothing has written`);
      }
    }
    for (const { storage } of [...readsOf(op), ...writesOf(op)]) {
      if (!storage.isPending) continue;
      const known = lifetimes.get(storage);
      if (known === undefined) lifetimes.set(storage, { storage, first: index, last: index });
      else known.last = index;
    }
    // What a detached operation touches stays untouched to the end: nothing says when it is done.
    if (op.kind === "hostOp" && op.detached) {
      for (const { storage } of op.uploads) {
        const known = lifetimes.get(storage);
        if (known !== undefined) known.last = ops.length;
      }
    }
  });
  return [...lifetimes.values()];
}

/** Greedy colouring in order of first use: the lowest colour that no read/write partner has. */
function colorStorages(
  ops: readonly RecordedOp[],
  lifetimes: readonly Lifetime[],
): Map<TensorStorage, number> {
  const conflicts = new Map<TensorStorage, Set<TensorStorage>>();
  for (const { storage } of lifetimes) conflicts.set(storage, new Set());
  for (const op of ops) {
    if (op.kind !== "launch") continue;
    for (const input of op.inputs) {
      for (const output of op.outputs) {
        conflicts.get(input.storage)?.add(output.storage);
        conflicts.get(output.storage)?.add(input.storage);
      }
    }
  }
  const colors = new Map<TensorStorage, number>();
  for (const { storage } of lifetimes) {
    const taken = new Set([...(conflicts.get(storage) ?? [])].map((other) => colors.get(other)));
    let color = 0;
    while (taken.has(color)) color += 1;
    colors.set(storage, color);
  }
  return colors;
}

/** The lowest offset at which `sizeBytes` fits between storages that are alive at the same time. */
function firstGap(neighbours: readonly (Placement & Lifetime)[], sizeBytes: number): number {
  const byOffset = [...neighbours].sort((a, b) => a.offsetBytes - b.offsetBytes);
  let offset = 0;
  for (const { offsetBytes, storage } of byOffset) {
    if (offset + sizeBytes <= offsetBytes) break;
    offset = Math.max(offset, offsetBytes + roundUp(storage.sizeBytes, OFFSET_ALIGNMENT));
  }
  return offset;
}
