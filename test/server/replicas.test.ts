import fc from "fast-check";
import { expect, test } from "vitest";
import { WorkerError } from "../../src/common/errors.ts";
import { PrefixMemory, prefixHashes } from "../../src/server/replicas/prefixAffinity.ts";
import { dealReplicaDevices } from "../../src/server/replicas/replicaDevices.ts";
import { chooseReplica, type RouteCandidate } from "../../src/server/replicas/routing.ts";
import { post, type SimulatedServer, startSimulated, until } from "./support/simulatedServer.ts";

const idle: RouteCandidate = {
  numRunning: 0,
  numWaiting: 0,
  maxNumSeqs: 8,
  kvUsage: 0,
  prefixSeen: 0,
  numRouted: 0,
};

test.each<[why: string, candidates: Partial<RouteCandidate>[], chosen: number]>([
  ["fewer requests run", [{ numRunning: 2 }, { numRunning: 1 }], 1],
  ["a queue counts more than a batch", [{ numWaiting: 2 }, { numRunning: 3 }], 1],
  ["the emptier cache", [{ kvUsage: 0.5 }, { kvUsage: 0.4 }], 1],
  ["a known prefix is worth some load", [{}, { prefixSeen: 1, numRunning: 4 }], 1],
  ["but not a full queue", [{}, { prefixSeen: 1, numRunning: 8, numWaiting: 8 }], 0],
  ["equals take turns", [{ numRouted: 3 }, { numRouted: 2 }], 1],
])("routing: %s", (_, candidates, chosen) => {
  const all = candidates.map((candidate, index) => ({ ...idle, ...candidate, index }));
  expect(chooseReplica(all)?.index).toBe(chosen);
});

test("prefix memory knows how much of a prompt it saw, and forgets the oldest", () => {
  const tokens = fc.array(fc.nat(9), { minLength: 64, maxLength: 64 });
  const holds = fc.property(tokens, tokens, fc.integer({ min: 0, max: 4 }), (a, b, pieces) => {
    const memory = new PrefixMemory();
    memory.add(prefixHashes(a));
    const mixed = [...a.slice(0, 16 * pieces), ...b.slice(16 * pieces)];
    const same = mixed.findIndex((token, i) => token !== a[i]);
    const expected = same < 0 ? 1 : Math.floor(same / 16) / 4;
    expect(memory.seen(prefixHashes(mixed))).toBe(expected);
  });
  fc.assert(holds);
  const small = new PrefixMemory(8); // two prompts
  const prompts = [1, 2, 3].map((token) => prefixHashes(Array<number>(64).fill(token)));
  for (const index of [0, 1, 0, 2]) small.add(prompts[index] ?? []);
  expect(prompts.map((hashes) => small.seen(hashes))).toEqual([1, 0, 1]);
});

test("devices are dealt to replicas in order, cyclically", () => {
  expect(dealReplicaDevices([0, 1, 2], 2, 3)).toEqual([
    [0, 1],
    [2, 0],
    [1, 2],
  ]);
});

const body = { prompt: "Once upon a time", max_tokens: 40, seed: 5, ignore_eos: true };
const text = async (server: SimulatedServer): Promise<string> => {
  const response = await post(server, "/v1/completions", body);
  expect(response.status).toBe(200);
  return ((await response.json()) as { choices: [{ text: string }] }).choices[0].text;
};
const status = async (server: SimulatedServer, path: string): Promise<number> =>
  (await fetch(server.url + path)).status;

test("replicas share the load", async () => {
  const server = await startSimulated({ numReplicas: 2 });
  const prompts = Array.from({ length: 8 }, (_, i) => `${i} once`);
  await Promise.all(prompts.map((prompt) => post(server, "/v1/completions", { ...body, prompt })));
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  for (const engine of [0, 1]) {
    const line = `vllm:request_success_total{model_name="sim",engine="${engine}",finished_reason="length"} 4`;
    expect(metrics).toContain(line);
  }
  await server.stop();
});

test("a dead replica's requests move if nothing was streamed, and it comes back", async () => {
  const lost = new WorkerError("rank 0: its worker thread died");
  const server = await startSimulated({
    numReplicas: 2,
    restartDelaysMs: [300],
    faults: (replica, numLoads) =>
      replica === 0 && numLoads === 0 ? { failAtStep: 0, error: lost } : {},
  });
  const healthy = await startSimulated();
  const expected = await text(healthy);
  expect(await Promise.all([text(server), text(server)])).toEqual([expected, expected]);
  expect([await status(server, "/health"), await status(server, "/ready")]).toEqual([503, 200]);
  const health = (await (await fetch(`${server.url}/health`)).json()) as object;
  expect(JSON.stringify(health)).toContain(lost.message);
  await until(() => server.replicas.replicas[0]?.state === "ready");
  expect([await status(server, "/health"), await text(server)]).toEqual([200, expected]);
  expect(server.replicas.replicas[0]?.numRestarts).toBe(1);
  await Promise.all([server.stop(), healthy.stop()]);
});

test("what was streamed already is not begun again elsewhere", async () => {
  const error = new WorkerError("rank 0: gone");
  const server = await startSimulated({
    numReplicas: 2,
    faults: (replica, numLoads) => (replica + numLoads === 0 ? { failAtStep: 10, error } : {}),
  });
  const stream = async (): Promise<string> =>
    await (await post(server, "/v1/completions", { ...body, stream: true })).text();
  const answers = await Promise.all([stream(), stream()]);
  const lost = answers.filter((events) => events.includes("worker_lost"));
  expect(lost).toHaveLength(1);
  expect(lost[0]?.match(/"choices"/g)?.length).toBeLessThan(12);
  await server.stop();
});

test("what was streamed already ends with an error; without a replica left it is a 503", async () => {
  const error = new WorkerError("rank 0: gone");
  const faults = (_: number, numLoads: number): object =>
    numLoads === 0 ? { failAtStep: 10, error } : {};
  const server = await startSimulated({ restartDelaysMs: [500], faults });
  const response = await post(server, "/v1/completions", { ...body, stream: true });
  const events = await response.text();
  expect(response.status).toBe(200);
  expect(events).toMatch(/"text":.*"code":"worker_lost".*\n\ndata: \[DONE\]/s);
  const refused = await post(server, "/v1/completions", body);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
  expect(await status(server, "/ready")).toBe(503);
  await until(() => server.replicas.replicas[0]?.state === "ready");
  expect((await text(server)).length).toBeGreaterThan(10);
  await server.stop();
});
