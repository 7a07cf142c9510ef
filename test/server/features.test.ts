import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import {
  post,
  type SimulatedServer,
  startSimulated,
  tokenizer,
} from "./support/simulatedServer.ts";

let server: SimulatedServer;
let client: OpenAI;
beforeAll(async () => {
  server = await startSimulated();
  ({ client } = server);
});
afterAll(async () => {
  expect(server.isIdle()).toBe(true);
  await server.stop();
});

const prompt = "Once upon a time";
const fixed = { model: "sim", prompt, seed: 7, max_tokens: 12, ignore_eos: true };
const messages = [{ role: "user" as const, content: "Hi" }];
const chat = { model: "sim", messages, seed: 7, max_completion_tokens: 8 };

describe("stop", () => {
  test("cuts the text before the string, streamed or not, and says which it was", async () => {
    const whole = await client.completions.create(fixed);
    const text = whole.choices[0]?.text ?? "";
    const stop = [text.slice(12, 15), "never to be seen"];
    const stopped = await client.completions.create({ ...fixed, stop });
    const cut = text.slice(0, text.indexOf(stop[0] ?? ""));
    const ending = { text: cut, finish_reason: "stop", stop_reason: stop[0] };
    expect(stopped.choices[0]).toMatchObject(ending);
    let streamed = "";
    for await (const { choices } of await client.completions.create({
      ...fixed,
      stop,
      stream: true,
    })) {
      streamed += choices[0]?.text ?? "";
    }
    expect(streamed).toBe(cut);
  });
});

describe("logprobs", () => {
  test("completions: a row a token, streamed rows are the same", async () => {
    const body = { ...fixed, logprobs: 3 };
    const { choices } = await client.completions.create(body);
    const { text, logprobs } = choices[0] ?? {};
    expect(logprobs?.tokens).toHaveLength(12);
    expect(logprobs?.token_logprobs?.every((value) => Number.isFinite(value))).toBe(true);
    expect(Object.keys(logprobs?.top_logprobs?.[0] ?? {}).length).toBeGreaterThanOrEqual(3);
    expect(logprobs?.text_offset?.[1]).toBe(logprobs?.tokens?.[0]?.length);
    let streamedText = "";
    const tokens: string[] = [];
    const offsets: number[] = [];
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      streamedText += chunk.choices[0]?.text ?? "";
      tokens.push(...(chunk.choices[0]?.logprobs?.tokens ?? []));
      offsets.push(...(chunk.choices[0]?.logprobs?.text_offset ?? []));
    }
    expect([streamedText, tokens, offsets]).toEqual([
      text,
      logprobs?.tokens,
      logprobs?.text_offset,
    ]);
  });

  test("echo with them begins with the prompt's, also where nothing else is asked for", async () => {
    const numPromptTokens = tokenizer.encode(prompt).length;
    const body = { ...fixed, echo: true, logprobs: 1 };
    const both = await client.completions.create(body);
    expect(both.choices[0]?.logprobs?.tokens).toHaveLength(numPromptTokens + 12);
    expect(both.choices[0]?.logprobs?.token_logprobs?.[0]).toBe(null);
    const only = await client.completions.create({ ...body, max_tokens: 0 });
    expect(only.choices[0]).toMatchObject({ text: prompt, finish_reason: "length" });
    expect(only.choices[0]?.logprobs?.tokens).toHaveLength(numPromptTokens);
    expect(only.usage?.completion_tokens).toBe(0);
  });

  test("chat: bytes and the likeliest of each token", async () => {
    const body = { ...chat, logprobs: true, top_logprobs: 2 };
    const { choices } = await client.chat.completions.create(body);
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content.length).toBe(8);
    expect(content[0]?.top_logprobs).toHaveLength(2);
    const text = new TextDecoder().decode(
      new Uint8Array(content.flatMap(({ bytes }) => bytes ?? [])),
    );
    expect(text).toBe(content.map(({ token }) => token).join(""));
  });
});

test("logit_bias, min_tokens and priority reach the engine", async () => {
  const plain = await client.completions.create(fixed);
  const biased = await client.completions.create({ ...fixed, logit_bias: { "50": 5 } });
  expect(biased.choices[0]?.text).not.toBe(plain.choices[0]?.text);
  const response = await post(server, "/v1/completions", { ...fixed, priority: -3, min_tokens: 4 });
  expect(response.status).toBe(200);
});

test("a format of a schema gives JSON of it; every choice has its own place in the grammar", async () => {
  const schema = {
    type: "object",
    properties: { ok: { type: "boolean" }, kind: { enum: ["fox", "king"] } },
    required: ["ok", "kind"],
  };
  const json_schema = { name: "answer", schema };
  const body = { ...chat, max_completion_tokens: 60, n: 3 };
  const { choices } = await client.chat.completions.create({
    ...body,
    response_format: { type: "json_schema", json_schema },
  });
  expect(choices).toHaveLength(3);
  for (const { message, finish_reason } of choices) {
    expect(finish_reason).toBe("stop");
    const { ok, kind } = JSON.parse(message.content ?? "") as Record<string, unknown>;
    expect([typeof ok, ["fox", "king"].includes(kind as string)]).toEqual(["boolean", true]);
  }
});

test("the same prompt again is found in the prefix cache, and usage says so", async () => {
  const long = Array.from({ length: 40 }, (_, index) => 100 + index);
  const cached = async (): Promise<number | undefined> => {
    const { usage } = await client.completions.create({ ...fixed, prompt: long });
    return usage?.prompt_tokens_details?.cached_tokens;
  };
  expect([await cached(), await cached()]).toEqual([0, 32]);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toMatch(/vllm:prefix_cache_hits_total\{.*\} [1-9]/);
});
