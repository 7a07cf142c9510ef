import { expect, test } from "vitest";
import {
  packSignature,
  describeSignature,
  unpackSignature,
} from "../../../src/collectives/signature.ts";
import { ControlBlock } from "../../../src/collectives/watchdog/controlBlock.ts";
import { FlightRecorder } from "../../../src/collectives/watchdog/flightRecorder.ts";
import { LOCAL_WORLDS, onEveryRank } from "../support/worlds.ts";

const newBlock = (worldSize: number): ControlBlock =>
  new ControlBlock(new ArrayBuffer(ControlBlock.sizeBytes(worldSize)), 0, worldSize);

test("the flight recorder keeps the last 1,000 operations, oldest first, and counts all", () => {
  const recorder = new FlightRecorder(3);
  for (let sequence = 1; sequence <= 1200; sequence++) {
    const entry = {
      group: "tp",
      name: "barrier",
      algorithm: "oneShot",
      sequence,
      bytes: 2,
    } as const;
    recorder.end(recorder.begin(entry));
  }
  const { rank, entries, totals } = recorder.dump();
  expect([rank, entries.length, entries[0]?.sequence, entries.at(-1)?.sequence]).toEqual([
    3, 1000, 201, 1200,
  ]);
  expect(totals["barrier"]).toMatchObject({ count: 1200, bytes: 2400 });
  expect(recorder.totals().count).toBe(1200);
  recorder.resetTotals();
  expect(recorder.totals("barrier")).toEqual({ count: 0, bytes: 0, elapsedMs: 0 });
});

test("a communicator's operations are recorded with their bytes and times, as JSON", async () => {
  const [dump] = await onEveryRank(LOCAL_WORLDS.loopback, 2, async (communicator) => {
    await communicator.allReduce(new Float32Array(100));
    await communicator.gather(new Uint8Array(7), 0);
    return communicator.recorder.dump();
  });
  const copy = JSON.parse(JSON.stringify(dump)) as typeof dump;
  expect(copy).toEqual(dump);
  expect(copy?.entries).toMatchObject([
    { group: "world", name: "allReduce", algorithm: "oneShot", sequence: 1, bytes: 400 },
    { name: "gather", sequence: 2, bytes: 7 },
  ]);
  for (const { startMs, endMs = 0 } of copy?.entries ?? [])
    expect(endMs).toBeGreaterThanOrEqual(startMs);
});

test("the control block keeps ranks and groups apart", () => {
  const control = newBlock(3);
  control.join(1);
  control.begin(1, 2, 5, { signature: 77, bytes: 12 });
  expect(control.progress(1, 2)).toMatchObject({ state: "running", started: 5, completed: 0 });
  control.complete(1, 2, 5);
  expect(control.progress(1, 2).completed).toBe(5);
  expect(control.announced(1, 2, 5)).toEqual({ signature: 77, bytes: 12 });
  for (const [rank, group] of [
    [0, 2],
    [2, 2],
    [1, 1],
    [1, 3],
  ] as const) {
    expect(control.progress(rank, group)).toMatchObject({ started: 0, completed: 0 });
    expect(control.announced(rank, group, 5)).toBeUndefined();
  }
});

test("the first cause of an abort is kept, cut to its room", () => {
  const control = newBlock(2);
  expect(control.abortCause).toBeUndefined();
  expect(control.abort({ rank: 1, reason: "ä".repeat(5000) })).toBe(true);
  expect(control.abort({ rank: 0, reason: "later" })).toBe(false);
  expect(control.abortCause?.rank).toBe(1);
  expect(control.abortCause?.reason).toBe("ä".repeat(1024));
});

test("signatures survive packing", () => {
  const signature = { name: "broadcast", algorithm: "ring", dtype: "bf16", root: 31 } as const;
  expect(unpackSignature(packSignature(signature))).toEqual(signature);
  const rootless = { name: "allToAll", algorithm: "recursiveDoubling", dtype: "i32" } as const;
  expect(unpackSignature(packSignature(rootless))).toEqual({ ...rootless, root: undefined });
  expect(describeSignature(packSignature(signature), 8)).toBe(
    "broadcast (ring, bf16, root 31, 8 bytes)",
  );
});
