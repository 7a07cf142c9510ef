import { readFileSync } from "node:fs";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEMO_MODEL } from "../../src/cli/modelArgs.ts";
import { DEFAULT_ENGINE_ARGS } from "../../src/runtime/engineArgs.ts";
import { type RunningServer, startServer } from "../../src/server/server.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { until } from "./support/simulatedServer.ts";

interface Golden {
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly text: string;
}
const file = readFileSync(join(DEMO_MODEL, "golden.json"), "utf8");
const goldens = Object.entries(JSON.parse(file) as Record<string, Golden>).filter(
  ([prompt]) => !prompt.startsWith("_"),
);

/** Compiling for all ranks takes a while on a busy machine. */
const LOAD_TIMEOUT_MS = 120_000;

let server: RunningServer;
let client: OpenAI;
beforeAll(async () => {
  const index = await testDeviceIndex();
  const args = { ...DEFAULT_ENGINE_ARGS, model: DEMO_MODEL, devices: [index] };
  server = await startServer(
    { ...args, tpSize: 2, maxNumSeqs: 8, maxModelLen: 256, kvCacheDType: "f32" },
    {
      host: "127.0.0.1",
      port: 0,
      servedModelNames: ["fable-5m"],
      apiKeys: [],
      allowedOrigins: [],
      maxRequestBytes: 1 << 20,
      maxQueue: 256,
      numReplicas: 2,
      firstReplica: 0,
      chatTemplate: "plain",
      drainTimeoutMs: 5000,
      toolCallParser: null,
    },
  );
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}, LOAD_TIMEOUT_MS);
afterAll(async () => {
  await server.stop();
}, LOAD_TIMEOUT_MS);

function isIdle(): boolean {
  return server.replicas.replicas.every(({ model }) => {
    const { numRunning, numWaiting, numUsedBlocks } = model.llm.engine.stats;
    return numRunning + numWaiting + numUsedBlocks === 0;
  });
}

const model = "fable-5m";

describe("fable-5m over 2 replicas of 2 ranks", () => {
  test.each(goldens)("continues %j as the golden does", async (prompt, golden) => {
    const body = { model, prompt, max_tokens: 24 };
    const { choices, usage } = await client.completions.create(body);
    const text = choices[0]?.text ?? "";
    expect(text.length).toBeGreaterThan(0);
    expect(golden.text.startsWith(text)).toBe(true);
    expect(usage?.prompt_tokens).toBe(golden.prompt_ids.length);
  });

  test("streams the same, counts usage, and stops at a string", async () => {
    const [prompt, golden] = goldens[0] ?? ["", { text: "" }];
    const stream = await client.completions.create({
      ...{ model, prompt, max_tokens: 24, stream: true },
      stream_options: { include_usage: true },
    });
    let [text, numTokens] = ["", 0];
    for await (const { choices, usage } of stream) {
      text += choices[0]?.text ?? "";
      numTokens = usage?.completion_tokens ?? numTokens;
    }
    expect([golden.text.startsWith(text), numTokens]).toEqual([true, 24]);
    const word = text.trim().split(/\s+/)[3] ?? "";
    const stopped = await client.completions.create({ model, prompt, max_tokens: 24, stop: word });
    const cut = text.slice(0, text.indexOf(word));
    expect(stopped.choices[0]).toMatchObject({ text: cut, finish_reason: "stop" });
  });

  test("chat by the plain template is the completion of its text", async () => {
    const content = "Once upon a time";
    const messages = [{ role: "user" as const, content }];
    const chat = await client.chat.completions.create({
      model,
      messages,
      max_completion_tokens: 12,
    });
    const body = { model, prompt: content, max_tokens: 12 };
    const completion = await client.completions.create(body);
    expect(chat.choices[0]?.message.content).toBe(completion.choices[0]?.text);
  });

  test("seeded sampling with every filter and penalty is the same twice, and n choices differ", async () => {
    const body = {
      ...{ model, prompt: "The old king", max_tokens: 12, temperature: 0.9, top_p: 0.95, seed: 11 },
      ...{ top_k: 50, min_p: 0.01, presence_penalty: 0.5, frequency_penalty: 0.2, n: 2 },
    };
    const texts = async (): Promise<string[]> => {
      const { choices } = await client.completions.create(body);
      return choices.map(({ text }) => text);
    };
    const [first, second] = [await texts(), await texts()];
    expect(second).toEqual(first);
    expect(new Set(first).size).toBe(2);
  });

  test("many streams at once, some broken off: each its own text, and no block is left", async () => {
    const run = async (index: number): Promise<void> => {
      const [prompt, golden] = goldens[index % goldens.length] ?? ["", { text: "" }];
      const stream = await client.completions.create({
        model,
        prompt,
        max_tokens: 16,
        stream: true,
      });
      let text = "";
      for await (const { choices } of stream) {
        text += choices[0]?.text ?? "";
        if (index % 5 === 4) break;
      }
      stream.controller.abort();
      expect(golden.text.startsWith(text)).toBe(true);
    };
    await Promise.all(Array.from({ length: 24 }, (_, index) => run(index)));
    await until(isIdle);
  });

  test("metrics and status tell of the work", async () => {
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/tandem:collective_seconds_total\{.*rank="1"\} \d*\.\d*[1-9]/);
    expect(metrics).toMatch(/vllm:generation_tokens_total\{.*engine="1"\} [1-9]/);
    const status = (await (await fetch(`${server.url}/status`)).json()) as {
      replicas: { ranks: unknown[] }[];
    };
    expect(status.replicas.map(({ ranks }) => ranks.length)).toEqual([2, 2]);
  });
});
