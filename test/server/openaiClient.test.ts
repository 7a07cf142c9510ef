import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  numAborted,
  type SimulatedServer,
  startSimulated,
  tokenizer,
  until,
} from "./support/simulatedServer.ts";

let server: SimulatedServer;
let client: OpenAI;
beforeAll(async () => {
  server = await startSimulated({ options: { servedModelNames: ["sim", "alias"] } });
  ({ client } = server);
});
afterAll(async () => {
  expect(server.isIdle()).toBe(true);
  await server.stop();
});

const prompt = "Once upon a time";
const fixed = { model: "sim", prompt, seed: 7, max_tokens: 20 } as const;

describe("completions", () => {
  test("whole and streamed are the same text, with the same usage", async () => {
    const whole = await client.completions.create(fixed);
    const stream = await client.completions.create({
      ...fixed,
      stream: true,
      stream_options: { include_usage: true },
    });
    let [text, reason, usage]: [string, unknown, unknown] = ["", null, null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      reason ??= chunk.choices[0]?.finish_reason;
      usage = chunk.usage ?? usage;
    }
    const [choice] = whole.choices;
    expect(choice?.text.length).toBeGreaterThan(10);
    expect([text, reason, usage]).toEqual([choice?.text, choice?.finish_reason, whole.usage]);
    const promptTokens = tokenizer.encode(prompt).length;
    expect(whole.usage).toMatchObject({ prompt_tokens: promptTokens, completion_tokens: 20 });
    expect(whole).toMatchObject({ object: "text_completion", model: "sim" });
  });

  test("max_tokens is 16 unless said, and a prompt may be token ids", async () => {
    const promptIds = tokenizer.encode(prompt);
    const { seed } = fixed; // ends a sequence no earlier
    const { usage } = await client.completions.create({ model: "sim", prompt: promptIds, seed });
    expect(usage?.completion_tokens).toBe(16);
  });

  test("n choices have seeds of their own, each of which can be had again alone", async () => {
    const { choices } = await client.completions.create({ ...fixed, n: 3 });
    const texts = choices.map(({ text }) => text);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(texts).size).toBe(3);
    const second = await client.completions.create({ ...fixed, seed: fixed.seed + 1 });
    expect(second.choices[0]?.text).toBe(texts[1]);
  });

  test("several prompts and n: choices in order of prompts, usage counts each prompt once", async () => {
    const prompts = ["A", "The old king said"];
    const { choices, usage } = await client.completions.create({ ...fixed, prompt: prompts, n: 2 });
    const alone = await client.completions.create({ ...fixed, prompt: prompts[1] ?? "" });
    expect(choices).toHaveLength(4);
    expect(choices[2]?.text).toBe(alone.choices[0]?.text);
    const numPromptTokens = prompts.flatMap((text) => tokenizer.encode(text)).length;
    expect(usage?.prompt_tokens).toBe(numPromptTokens);
  });

  test("echo puts the prompt first; with max_tokens 0 there is nothing else", async () => {
    const { choices } = await client.completions.create({ ...fixed, echo: true });
    expect(choices[0]?.text.startsWith(prompt)).toBe(true);
    const only = await client.completions.create({ ...fixed, echo: true, max_tokens: 0 });
    expect(only.choices[0]).toMatchObject({ text: prompt, finish_reason: "length" });
    expect(only.usage?.completion_tokens).toBe(0);
  });
});

describe("chat", () => {
  const messages = [{ role: "user", content: "Tell me a story" }] as const;
  const chat = { model: "alias", messages: [...messages], seed: 3, max_completion_tokens: 12 };

  test("whole and streamed are the same message", async () => {
    const whole = await client.chat.completions.create(chat);
    const stream = client.chat.completions.stream({
      ...chat,
      stream_options: { include_usage: true },
    });
    const streamed = await stream.finalChatCompletion();
    expect(streamed.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
    expect(streamed.usage).toEqual(whole.usage);
    expect(whole.usage?.completion_tokens).toBe(12);
    expect(whole.choices[0]?.message.role).toBe("assistant");
  });

  test("the template sees roles, parts and tools", async () => {
    const tools = [{ type: "function" as const, function: { name: "look", parameters: {} } }];
    const count = async (body: object): Promise<number> => {
      const answer = await client.chat.completions.create({ ...chat, ...body });
      return answer.usage?.prompt_tokens ?? 0;
    };
    const plain = await count({});
    expect(await count({ tools })).toBeGreaterThan(plain);
    expect(await count({ tools, tool_choice: "none" })).toBe(plain);
    const parts = [{ role: "user", content: [{ type: "text", text: "Tell me a story" }] }];
    expect(await count({ messages: parts })).toBe(plain);
  });
});

describe("models", () => {
  test("lists every served name, and finds one", async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(["sim", "alias"]);
    expect(await client.models.retrieve("alias")).toMatchObject({ max_model_len: 256 });
    await expect(client.models.retrieve("other")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

describe("errors are the client's own classes", () => {
  test("another model", async () => {
    const call = client.completions.create({ ...fixed, model: "gpt-4" });
    await expect(call).rejects.toMatchObject({ status: 404, code: "model_not_found" });
  });

  test("a prompt that does not fit", async () => {
    const call = client.completions.create({ ...fixed, max_tokens: 1000 });
    await expect(call).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(call).rejects.toMatchObject({ code: "context_length_exceeded", param: "prompt" });
  });
});

/** Requests that ended by abort, as /metrics counts them. */
describe("a client that leaves", () => {
  test("a stream that is broken off frees its blocks at once", async () => {
    const endless = { ...fixed, max_tokens: 200, n: 3, extra_body: {}, ignore_eos: true };
    const stream = await client.completions.create({ ...endless, stream: true });
    for await (const chunk of stream) {
      expect(chunk.object).toBe("text_completion");
      break;
    }
    stream.controller.abort();
    await until(() => server.isIdle());
    expect(await numAborted(server)).toBe(3);
  });

  test("so does a whole answer that is no longer awaited", async () => {
    const controller = new AbortController();
    const body = { ...fixed, max_tokens: 240, ignore_eos: true };
    const call = client.completions.create(body, { signal: controller.signal });
    await until(() => !server.isIdle());
    controller.abort();
    await expect(call).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await until(() => server.isIdle());
    expect(await numAborted(server)).toBe(4);
  });
});
