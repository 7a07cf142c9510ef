import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DEMO_MODEL } from "../../src/cli/modelArgs.ts";
import { DEFAULT_ENGINE_ARGS } from "../../src/runtime/engineArgs.ts";
import { randomNumbers } from "../../src/server/bench/workload.ts";
import { type RunningServer, startServer } from "../../src/server/server.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { post, until } from "./support/simulatedServer.ts";

/** 64 streams at once; CI sends few requests over them, TANDEM_TEST_SOAK=500 many. */
const NUM_STREAMS = 64;
const NUM_REQUESTS = Number(process.env["TANDEM_TEST_SOAK"] ?? 96);
const MAX_TOKENS = 16;
const PROMPTS = [
  "Once upon a time",
  "The king said to his daughter",
  "In the deep forest there lived an old woman who had",
  "A fox and a hen",
  "The miller's youngest son",
  "When the winter came",
];
const MALFORMED = ["{", '{"prompt":5}', '{"prompt":"a","max_tokens":-1}', '{"prompt":[9999]}'];

/** Compiling for all ranks takes a while on a busy machine. */
const LOAD_TIMEOUT_MS = 120_000;

let server: RunningServer;
let client: OpenAI;
beforeAll(async () => {
  const model = DEMO_MODEL;
  const devices = [await testDeviceIndex()];
  const sizes = { maxNumSeqs: 16, maxModelLen: 128, kvCacheDType: "f32" } as const;
  const args = { ...DEFAULT_ENGINE_ARGS, model, devices, ...sizes };
  server = await startServer(args, {
    ...{ host: "127.0.0.1", port: 0, servedModelNames: ["fable-5m"], apiKeys: [] },
    ...{ allowedOrigins: [], maxRequestBytes: 1 << 20, maxQueue: 1000, chatTemplate: undefined },
    ...{ numReplicas: 1, firstReplica: 0, drainTimeoutMs: 1000 },
  });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}, LOAD_TIMEOUT_MS);
afterAll(async () => {
  await server.stop();
}, LOAD_TIMEOUT_MS);

/** The text of a completion; with `numRead` the reader leaves after so many chunks. */
async function complete(prompt: string, numRead = Infinity): Promise<string> {
  const body = { model: "fable-5m", prompt, max_tokens: MAX_TOKENS, stream: true } as const;
  const stream = await client.completions.create(body);
  let [text, numChunks] = ["", 0];
  for await (const { choices } of stream) {
    text += choices[0]?.text ?? "";
    numChunks += 1;
    if (numChunks >= numRead) break;
  }
  stream.controller.abort();
  return text;
}

test("many streams, cancellations and malformed bodies: right texts, and nothing is left", async () => {
  const solo = new Map<string, string>();
  for (const prompt of PROMPTS) solo.set(prompt, await complete(prompt));
  const random = randomNumbers(1);
  const counts = { whole: 0, left: 0, malformed: 0, different: 0 };
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < NUM_REQUESTS) {
      const prompt = PROMPTS[next++ % PROMPTS.length] ?? "";
      const [kind, numRead] = [random(), 1 + Math.floor(random() * 8)];
      if (kind < 0.1) {
        const { status } = await post(server, "/v1/completions", MALFORMED[next % 4]);
        expect(status).toBe(400);
        counts.malformed += 1;
        continue;
      }
      const leaves = kind < 0.3;
      const text = await complete(prompt, leaves ? numRead : Infinity);
      counts[leaves ? "left" : "whole"] += 1;
      const expected = solo.get(prompt) ?? "";
      if (leaves ? !expected.startsWith(text) : text !== expected) counts.different += 1;
    }
  };
  await Promise.all(Array.from({ length: NUM_STREAMS }, work));
  const { engine } = server.replicas.model.llm;
  await until(() => engine.stats.numUsedBlocks + engine.stats.numRunning === 0);
  console.log(JSON.stringify({ ...counts, rssMB: Math.round(process.memoryUsage().rss / 1e6) }));
  expect(counts.different).toBe(0);
  expect(engine.stats).toMatchObject({ numWaiting: 0, numDraining: 0, numUsedBlocks: 0 });
  expect((await fetch(`${server.url}/health`)).status).toBe(200);
  const sockets = process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap");
  expect(sockets.length).toBeLessThan(4 * NUM_STREAMS); // kept alive by both sides, not one a request
});
