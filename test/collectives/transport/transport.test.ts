import { expect, test } from "vitest";
import { connectRank } from "../../../src/collectives/transport/connectNode.ts";
import { LoopbackHub } from "../../../src/collectives/transport/loopback.ts";
import {
  attachSharedMemory,
  createSharedMemory,
} from "../../../src/collectives/transport/sharedMemory.ts";
import { deadlineGuard } from "../../../src/collectives/watchdog/operationGuard.ts";
import { closeAll, routedWorld, WORLDS } from "../support/worlds.ts";
import { transportSuite } from "./transport.suite.ts";

for (const [name, makeWorld] of Object.entries(WORLDS)) transportSuite(name, makeWorld);

test("loopback lends the sender's own memory", async () => {
  const hub = new LoopbackHub(2);
  const [a, b] = [hub.transport(0), hub.transport(1)];
  const guard = deadlineGuard(hub.control, 1000);
  const bytes = Uint8Array.of(1, 2, 3);
  const lent: unknown[] = [];
  await Promise.all([
    a.send(1, { tag: 1, signature: 0 }, bytes, guard),
    b.recv(0, 1, (chunk) => lent.push(chunk.bytes, chunk.shared), guard),
  ]);
  expect(lent).toEqual([bytes, false]);
  expect(lent[0]).toBe(bytes);
});

test("sharedMemory marks what it lends as shared", async () => {
  const descriptor = createSharedMemory(2);
  const [a, b] = [attachSharedMemory(descriptor, 0), attachSharedMemory(descriptor, 1)];
  const guard = deadlineGuard(a.control, 1000);
  const shared: boolean[] = [];
  await Promise.all([
    a.send(1, { tag: 1, signature: 0 }, new Uint8Array(4), guard),
    b.recv(0, 1, (chunk) => shared.push(chunk.shared), guard),
  ]);
  expect(shared).toEqual([true]);
  a.close();
  b.close();
});

test.each([0, 33, 2.5])("sharedMemory refuses %d ranks", (worldSize) => {
  expect(() => createSharedMemory(worldSize)).toThrow("expected 1 to 32 ranks");
});

test("sharedMemory refuses a rank outside the world", () => {
  expect(() => attachSharedMemory(createSharedMemory(2), 2)).toThrow(
    "expected a rank below 2, got 2",
  );
});

test("ranks of one process need no port, others need memory or a port, and are told which", async () => {
  const memory = createSharedMemory(2);
  const processes = [0, 0];
  const [a, b] = await Promise.all([0, 1].map((rank) => connectRank({ rank, processes, memory })));
  expect([a?.kind, b?.kind]).toEqual(["sharedMemory", "sharedMemory"]);
  a?.close();
  b?.close();
  await expect(connectRank({ rank: 0, processes })).rejects.toThrow(
    "rank 0: expected shared memory for 2 ranks, got none",
  );
  await expect(connectRank({ rank: 1, processes: [0, 1] })).rejects.toThrow(
    "rank 1: expected an open port and addresses for ranks 0 in other processes, got none",
  );
});

test("a routed world says how each group's bytes move", async () => {
  const transports = await routedWorld(4);
  const [first] = transports;
  expect(first?.kind).toBe("tcp");
  expect(first?.kindAmong?.([0, 2])).toBe("sharedMemory");
  expect(first?.kindAmong?.([0, 1])).toBe("tcp");
  expect(first?.hosts).toEqual([0, 1, 0, 1]);
  closeAll(transports);
});
