/** Nothing hangs, continued: links that lose, spoil and delay, and ranks that die, for every algorithm. */
import { describe, expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { ALGORITHMS, type Algorithm } from "../../src/collectives/signature.ts";
import {
  type LinkProperties,
  SimulatedLink,
} from "../../src/collectives/transport/simulatedLink.ts";
import { CollectiveError } from "../../src/common/errors.ts";
import { closeAll, LOCAL_WORLDS, type MakeWorld, tcpWorld } from "./support/worlds.ts";

const BAD = 1; // the rank whose link is bad
const NUM_RANKS = 4;
const TIMEOUT_MS = 250;
const WAYS: readonly (readonly [string, MakeWorld])[] = [
  ...Object.entries(LOCAL_WORLDS),
  ["tcp", (worldSize) => tcpWorld(worldSize)],
];
const CASES = WAYS.flatMap(([name, make]) =>
  ALGORITHMS.map((algorithm) => [name, algorithm, make] as const),
);

interface Outcome {
  readonly errors: readonly unknown[];
  readonly elapsedMs: number;
}

/** Runs the body on every rank, rank BAD behind the link. */
async function outcomeOf(
  makeWorld: MakeWorld,
  link: LinkProperties,
  body: (host: HostCommunicator, link: SimulatedLink) => Promise<unknown>,
  timeoutMs = TIMEOUT_MS,
): Promise<Outcome> {
  const links = (await makeWorld(NUM_RANKS)).map(
    (transport) => new SimulatedLink(transport, transport.rank === BAD ? link : {}),
  );
  const begin = performance.now();
  const outcomes = await Promise.allSettled(
    links.map((own) => {
      const options = { timeoutMs, checksums: true };
      return body(new HostCommunicator(worldGroup(own), options), own);
    }),
  );
  const elapsedMs = performance.now() - begin;
  closeAll(links);
  const errors = outcomes.map((outcome): unknown =>
    outcome.status === "rejected" ? outcome.reason : undefined,
  );
  return { errors, elapsedMs };
}

/** Every rank has an error of ours within the deadline and a slice; returns all messages. */
function expectErrors({ errors, elapsedMs }: Outcome, ranks: readonly number[]): string {
  expect(elapsedMs).toBeLessThan(TIMEOUT_MS + 4000); // slices, and a busy machine
  for (const rank of ranks) expect(errors[rank]).toBeInstanceOf(CollectiveError);
  return ranks.map((rank) => (errors[rank] as Error).message).join("\n");
}

/** A rank may be done before another finds the fault; it then learns of it at the barrier. */
const reduce = (algorithm: Algorithm) => async (host: HostCommunicator) => {
  await host.allReduce(new Float32Array(1000).fill(1), { algorithm, segmentBytes: 256 });
  await host.barrier();
};
const ALL = [0, 1, 2, 3];
const OTHERS = [0, 2, 3];

describe.concurrent.each(CASES)("%s, %s", (_name, algorithm, makeWorld) => {
  test("a dropped message ends every rank with who did not finish", async () => {
    const text = expectErrors(await outcomeOf(makeWorld, { dropShare: 1 }, reduce(algorithm)), ALL);
    expect(text).toMatch(/of group world on rank \d: .* did not (finish|arrive) within 250 ms/);
    expect(text).toMatch(/last completed: rank 0 #\d/);
  });

  test("a damaged message is found by its checksum", async () => {
    const outcome = await outcomeOf(makeWorld, { corruptShare: 1, seed: 7 }, reduce(algorithm));
    expect(expectErrors(outcome, ALL)).toContain("a message from rank 1 was damaged on its way");
  });

  test("a truncated message is an error that names both sizes", async () => {
    const outcome = await outcomeOf(makeWorld, { truncateShare: 1, seed: 3 }, reduce(algorithm));
    expect(expectErrors(outcome, ALL)).toMatch(/expected \d+ bytes from rank 1, got \d+/);
  });

  test("a rank that dies in the middle is named by those that wait for it", async () => {
    const outcome = await outcomeOf(makeWorld, { dieAfterMessages: 1 }, reduce(algorithm));
    expect(expectErrors(outcome, OTHERS)).toMatch(/rank \d began it but did not finish|rank 1/);
  });

  test("a rank that dies after an operation is missed at the next", async () => {
    const outcome = await outcomeOf(makeWorld, {}, async (host, link) => {
      await reduce(algorithm)(host);
      await new Promise((resolve) => setTimeout(resolve, 20)); // what has been sent arrives
      if (host.rank === BAD) {
        link.die();
        return;
      }
      await reduce(algorithm)(host);
    });
    expect(outcome.errors[BAD]).toBeUndefined();
    const text = expectErrors(outcome, OTHERS);
    expect(text).toContain("#3 of group world");
    expect(text).toContain("rank 1 did not arrive");
  });

  test("a slow rank is waited for; too slow a one is named", async () => {
    const slow = await outcomeOf(
      makeWorld,
      { latencyMs: 5, jitterMs: 5 },
      reduce(algorithm),
      10_000,
    );
    expect(slow.errors).toEqual([undefined, undefined, undefined, undefined]);
    const tooSlow = await outcomeOf(makeWorld, { latencyMs: 5 * TIMEOUT_MS }, reduce(algorithm));
    expect(expectErrors(tooSlow, ALL)).toMatch(/did not (finish|arrive) within 250 ms/);
  });
});

test("ranks that ask for different wires or algorithms are told both", async () => {
  const [loopback] = Object.values(LOCAL_WORLDS);
  if (loopback === undefined) throw new Error("no world");
  const wires = await outcomeOf(loopback, {}, (host) =>
    host.allReduce(new Float32Array(64), {
      wire: host.rank === BAD ? "f16" : "f32",
      algorithm: "ring",
    }),
  );
  expect(expectErrors(wires, ALL)).toMatch(
    /allReduce \(ring, f(16|32), 256 bytes\).*runs allReduce \(ring, f(16|32)/,
  );
  const algorithms = await outcomeOf(loopback, {}, (host) =>
    host.allReduce(new Float32Array(64), { algorithm: host.rank === BAD ? "ring" : "oneShot" }),
  );
  expect(expectErrors(algorithms, ALL)).toMatch(/runs allReduce \((ring|oneShot), f32/);
});

test("the same seed spoils the same messages", async () => {
  const [loopback] = Object.values(LOCAL_WORLDS);
  if (loopback === undefined) throw new Error("no world");
  const runs = [1, 2].map(async () => {
    const link = { corruptShare: 0.3, truncateShare: 0.3, seed: 11 };
    const { errors } = await outcomeOf(loopback, link, async (host) => {
      for (let i = 0; i < 20; i++)
        await host.allReduce(new Float32Array(50), { algorithm: "ring" });
    });
    return String(errors[2]).replace(/quiet for [\d.]+ s/g, "");
  });
  const [first, second] = await Promise.all(runs);
  expect(first).toBe(second);
});

test("latency does not hold up the messages behind, bandwidth does", async () => {
  const [a, b] = LOCAL_WORLDS.loopback(2).map(
    (transport) => new SimulatedLink(transport, { latencyMs: 300, bandwidthGBps: 0.001 }),
  );
  if (a === undefined || b === undefined) throw new Error("no world");
  const hosts = [a, b].map((link) => new HostCommunicator(worldGroup(link)));
  const begin = performance.now();
  const sends = Array.from({ length: 5 }, () => hosts[0]?.send(1, new Uint8Array(2000)));
  const receives = Array.from({ length: 5 }, () => hosts[1]?.recvBytes(0));
  await Promise.all([...sends, ...receives]);
  const elapsedMs = performance.now() - begin;
  expect(elapsedMs).toBeGreaterThan(308); // 5 x 2 ms on the line, then 300 ms
  expect(elapsedMs).toBeLessThan(1200); // not 5 x 302
  closeAll([a, b]);
});
