/** Many clients at once, some of them rude: every text is its solo run's, and nothing is left behind. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
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
/** Logits closer than this may change places by rounding, in a batch of another size. */
const TIE = 1e-3;
/** What a process keeps of connections, compiled code and the like. */
const MAX_HEAP_GROWTH = 24e6;
const PROMPTS = [
  "Once upon a time",
  "The king said to his daughter",
  "In the deep forest there lived an old woman who had",
  "A fox and a hen",
  "The miller's youngest son",
  "When the winter came",
];
const MALFORMED = [
  ...["{", "", "null", '{"prompt":5}', '{"prompt":"a","max_tokens":-1}', '{"prompt":[9999]}'],
  ...['{"prompt":"a","logit_bias":{"x":1}}', '{"prompt":"a","n":0}', '{"prompt":["a",1]}'],
  '{"prompt":"a","response_format":{"type":"json_schema","json_schema":{"schema":{"type":"?"}}}}',
];

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
    ...{ numReplicas: 1, firstReplica: 0, drainTimeoutMs: 1000, toolCallParser: null },
  });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}, LOAD_TIMEOUT_MS);
afterAll(async () => {
  await server.stop();
}, LOAD_TIMEOUT_MS);

const request = { model: "fable-5m", max_tokens: MAX_TOKENS, temperature: 0 } as const;

/** The text of a completion; with `numRead` the reader leaves after so many chunks. */
async function complete(prompt: string, numRead = Infinity): Promise<string> {
  const stream = await client.completions.create({ ...request, prompt, stream: true });
  let [text, numChunks] = ["", 0];
  if (numRead > 0) {
    for await (const { choices } of stream) {
      text += choices[0]?.text ?? "";
      numChunks += 1;
      if (numChunks >= numRead) break;
    }
  }
  stream.controller.abort();
  return text;
}

interface Solo {
  readonly text: string;
  /** Where the texts of tokens begin, and how far the likeliest two were apart there. */
  readonly tokens: readonly { readonly begin: number; readonly gap: number }[];
}

async function runAlone(prompt: string): Promise<Solo> {
  const { choices } = await client.completions.create({ ...request, prompt, logprobs: 2 });
  const { text = "", logprobs } = choices[0] ?? {};
  const tokens = (logprobs?.top_logprobs ?? []).map((top, i) => {
    const [best = 0, next = -Infinity] = Object.values(top).sort((a, b) => b - a);
    return { begin: logprobs?.text_offset?.[i] ?? 0, gap: best - next };
  });
  return { text, tokens };
}

/** A text that is not the solo run's, or its beginning: a tie that fell otherwise, or plainly wrong. */
function judge(text: string, solo: Solo, isWhole: boolean): "same" | "tie" | "wrong" {
  if (isWhole ? text === solo.text : solo.text.startsWith(text)) return "same";
  let at = 0;
  while (at < text.length && text[at] === solo.text[at]) at += 1;
  const token = solo.tokens.findLast(({ begin }) => begin <= at);
  return (token?.gap ?? 0) < TIE ? "tie" : "wrong";
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
/** Bodies of answers are freed by finalisers, which run after a collection: one is not enough. */
async function heapBytes(): Promise<number> {
  for (let pass = 0; pass < 4; pass++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function deviceBuffers(): Promise<number[]> {
  const { ranks } = await server.replicas.model.stats();
  return ranks.map(({ buffers }) => buffers);
}

const counts = { same: 0, tie: 0, wrong: 0, left: 0, malformed: 0 };

async function sendMany(numRequests: number, solo: ReadonlyMap<string, Solo>): Promise<void> {
  const random = randomNumbers(numRequests);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < numRequests) {
      const prompt = PROMPTS[next++ % PROMPTS.length] ?? "";
      const [kind, numRead] = [random(), Math.floor(random() * 8)];
      if (kind < 0.1) {
        const body = MALFORMED[next % MALFORMED.length];
        expect((await post(server, "/v1/completions", body)).status, body).toBe(400);
        counts.malformed += 1;
        continue;
      }
      const leaves = kind < 0.3;
      const text = await complete(prompt, leaves ? numRead : Infinity);
      if (leaves) counts.left += 1;
      counts[judge(text, solo.get(prompt) ?? { text: "", tokens: [] }, !leaves)] += 1;
    }
  };
  await Promise.all(Array.from({ length: NUM_STREAMS }, work));
}

test("many streams, cancellations and malformed bodies: right texts, and nothing is left", async () => {
  const solo = new Map<string, Solo>();
  for (const prompt of PROMPTS) solo.set(prompt, await runAlone(prompt));
  const { engine } = server.replicas.model.llm;
  const isIdle = (): boolean => engine.stats.numUsedBlocks + engine.stats.numRunning === 0;
  await sendMany(NUM_STREAMS, solo); // connections, compiled code, caches; the grammars' library:
  await Promise.all(MALFORMED.map((body) => post(server, "/v1/completions", body)));
  await until(isIdle);
  const before = { heap: await heapBytes(), buffers: await deviceBuffers() };
  const beginMs = performance.now();
  await sendMany(NUM_REQUESTS, solo);
  await until(isIdle);
  const seconds = (performance.now() - beginMs) / 1000;
  const grownMB = ((await heapBytes()) - before.heap) / 1e6;
  const sockets = process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap");
  const figures = { ...counts, seconds, grownMB, sockets: sockets.length };
  console.log(JSON.stringify({ ...figures, rssMB: process.memoryUsage().rss / 1e6 }));
  expect(counts.wrong).toBe(0);
  expect(engine.stats).toMatchObject({ numWaiting: 0, numDraining: 0, numUsedBlocks: 0 });
  expect((await fetch(`${server.url}/health`)).status).toBe(200);
  expect(await deviceBuffers()).toEqual(before.buffers);
  expect(grownMB * 1e6).toBeLessThan(MAX_HEAP_GROWTH);
  expect(sockets.length).toBeLessThan(4 * NUM_STREAMS); // kept alive by both sides, not one a request
});
