/** Nothing hangs: every fault ends every rank, soon, with an error that says who and what. */
import { describe, expect, test } from "vitest";
import {
  CollectiveAbortedError,
  CollectiveError,
  CollectiveTimeoutError,
} from "../../src/common/errors.ts";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { SimulatedLink } from "../../src/collectives/transport/simulatedLink.ts";
import {
  closeAll,
  errorsOnEveryRank,
  LOCAL_WORLDS,
  type MakeWorld,
  WORLDS,
} from "./support/worlds.ts";

/** A rank that found out has the cause; all others are told that the group was aborted, and why. */
function expectCause(errors: readonly unknown[], cause: typeof CollectiveError): string {
  const causes = errors.filter((error) => !(error instanceof CollectiveAbortedError));
  const reasons = causes.map((error) => {
    expect(error).toBeInstanceOf(cause);
    return (error as Error).message;
  });
  expect(reasons.length).toBeGreaterThan(0);
  for (const error of errors) {
    expect(error).toBeInstanceOf(CollectiveError);
    expect(reasons.some((reason) => (error as Error).message.includes(reason))).toBe(true);
  }
  return reasons[0] ?? "";
}

async function linked(makeWorld: MakeWorld, lossy: number): Promise<SimulatedLink[]> {
  return (await makeWorld(3)).map(
    (transport, rank) => new SimulatedLink(transport, { dropShare: rank === lossy ? 1 : 0 }),
  );
}

describe.each(Object.entries(WORLDS))("%s", (_, makeWorld) => {
  test.each(["oneShot", "ring"] as const)(
    "%s: a rank that never comes is named, with everybody's progress",
    async (algorithm) => {
      const begin = performance.now();
      const errors = await errorsOnEveryRank(makeWorld, 3, async (communicator) => {
        await communicator.barrier();
        await communicator.barrier();
        if (communicator.rank === 1) return;
        await communicator.allReduce(new Float32Array(100), { algorithm });
      });
      expect(errors[1]).toBeUndefined();
      const reason = expectCause([errors[0], errors[2]], CollectiveTimeoutError);
      expect(reason).toContain(`allReduce (${algorithm}, f32, 400 bytes) #3 of group world`);
      expect(reason).toContain("rank 1 did not arrive within 200 ms");
      expect(reason).toMatch(/last completed: rank 0 #2 .*, rank 1 #2 .*, rank 2 #2/);
      expect(performance.now() - begin).toBeLessThan(5000); // a deadline of 200 ms, on a busy machine
    },
  );

  test("different operations under one number are an error naming both", async () => {
    const errors = await errorsOnEveryRank(makeWorld, 2, (communicator) =>
      communicator.rank === 0
        ? communicator.barrier()
        : communicator.allReduce(new Float32Array(4), { algorithm: "oneShot" }),
    );
    const reason = expectCause(errors, CollectiveError);
    expect(reason).toContain("barrier (oneShot, u8, 0 bytes)");
    expect(reason).toContain("allReduce (oneShot, f32, 16 bytes)");
    expect(reason).toMatch(/on rank [01]: rank [01] runs/);
  });

  test("ranks that both wait for the other's broadcast are found out before the deadline", async () => {
    const begin = performance.now();
    const errors = await errorsOnEveryRank(
      makeWorld,
      2,
      (communicator) => communicator.broadcast(new Uint8Array(4), 1 - communicator.rank),
      5000,
    );
    const reason = expectCause(errors, CollectiveError);
    expect(reason).toContain("root 0");
    expect(reason).toContain("root 1");
    expect(performance.now() - begin).toBeLessThan(4000);
  });

  test.each(["oneShot", "ring"] as const)("%s: different sizes are an error", async (algorithm) => {
    const errors = await errorsOnEveryRank(makeWorld, 2, (communicator) =>
      communicator.allReduce(new Float32Array(4 + communicator.rank), { algorithm }),
    );
    const reason = expectCause(errors, CollectiveError);
    expect(reason).toContain("16 bytes");
    expect(reason).toContain("20 bytes");
  });

  test("a message of another size or dtype than its receiver expects is an error", async () => {
    const bySize = await errorsOnEveryRank(makeWorld, 2, (communicator) =>
      communicator.rank === 0
        ? communicator.send(1, new Uint8Array(8)).then(() => communicator.barrier())
        : communicator.recv(0, () => undefined, { expectedBytes: 12 }),
    );
    expect(expectCause(bySize, CollectiveError)).toContain("expected 12 bytes from rank 0, got 8");
    const byDtype = await errorsOnEveryRank(makeWorld, 2, (communicator) =>
      communicator.rank === 0
        ? communicator.send(1, new Uint8Array(8), "f16").then(() => communicator.barrier())
        : communicator.recv(0, () => undefined, { dtype: "f32" }),
    );
    expect(expectCause(byDtype, CollectiveError)).toContain("f16");
  });

  test("an error in one rank's own code ends the operation everywhere", async () => {
    const errors = await errorsOnEveryRank(makeWorld, 3, (communicator) =>
      communicator.exchange(new Uint8Array(4), () => {
        if (communicator.rank === 2) throw new CollectiveError("device lost");
      }),
    );
    expect(errors[2]).toMatchObject({ message: "device lost" });
    // The others may have had their parts before it, but nobody hangs or fails otherwise.
    for (const error of errors.slice(0, 2)) {
      if (error !== undefined) expect(error).toBeInstanceOf(CollectiveAbortedError);
    }
  });

  test("a rank number outside the group ends the operation everywhere", async () => {
    const errors = await errorsOnEveryRank(makeWorld, 2, (communicator) =>
      communicator.broadcast(new Uint8Array(4), communicator.rank === 0 ? 2 : 0),
    );
    expect(expectCause(errors, CollectiveError)).toContain("expected a rank below 2, got 2");
  });

  test("after an abort every later operation fails at once with the first cause", async () => {
    const errors = await errorsOnEveryRank(makeWorld, 2, async (communicator) => {
      communicator.group.transport.abort({ rank: undefined, reason: "worker 1 died" });
      await communicator.barrier();
    });
    for (const error of errors) {
      expect(error).toBeInstanceOf(CollectiveAbortedError);
      expect(error).toMatchObject({ cause: { message: "worker 1 died" } });
    }
  });

  test("a rank that leaves is noticed before the deadline", async () => {
    const errors = await errorsOnEveryRank(
      makeWorld,
      2,
      async (communicator) => {
        await communicator.barrier();
        if (communicator.rank === 1) communicator.group.transport.close();
        else await communicator.barrier();
      },
      10_000,
    );
    expect(errors[0]).toMatchObject({
      message: expect.stringContaining("rank 1 has left") as string,
    });
  });

  test("lost messages end in a timeout that says who began and did not finish", async () => {
    const links = await linked(makeWorld, 1);
    const outcomes = await Promise.allSettled(
      links.map((link) => new HostCommunicator(worldGroup(link), { timeoutMs: 150 }).barrier()),
    );
    closeAll(links);
    const errors = outcomes.map((outcome): unknown =>
      outcome.status === "rejected" ? outcome.reason : undefined,
    );
    const reason = expectCause([errors[0], errors[2]], CollectiveTimeoutError);
    expect(reason).toContain("rank 1 began it but did not finish");
  });
});

test("a slow link delays and changes nothing", async () => {
  const links = LOCAL_WORLDS.loopback(3).map(
    (transport, rank) =>
      new SimulatedLink(transport, { latencyMs: 2, bandwidthGBps: 0.001, jitterMs: 3, seed: rank }),
  );
  const begin = performance.now();
  const sums = await Promise.all(
    links.map((link) =>
      new HostCommunicator(worldGroup(link)).allReduce(new Float32Array(1000).fill(link.rank)),
    ),
  );
  expect(performance.now() - begin).toBeGreaterThan(6); // 2 ms + 4,000 bytes at 1 MB/s
  for (const sum of sums) expect(new Set(sum)).toEqual(new Set([3]));
  closeAll(links);
});
