/** Fields that act on single logits, through the `openai` client on a device, whole and vocab-parallel. */
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEMO_MODEL } from "../../src/cli/modelArgs.ts";
import { DEFAULT_ENGINE_ARGS } from "../../src/runtime/engineArgs.ts";
import { type RunningServer, startServer } from "../../src/server/server.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { tokenizer } from "./support/simulatedServer.ts";

/** Compiling for all ranks takes a while on a busy machine. */
const LOAD_TIMEOUT_MS = 120_000;
const model = "fable-5m";
const prompt = "Once upon a time there was a";
const greedy = { model, prompt, max_tokens: 8, temperature: 0 } as const;
/** Tokens of both shards at tp 2. */
const SPREAD = [300, 2047, 2048, 4000];
const schema = {
  type: "object",
  properties: { ok: { type: "boolean" }, kind: { enum: ["fox", "king"] } },
  required: ["ok", "kind"],
};
const json_schema = { name: "answer", schema };

/** Log-probabilities of the same request on each layout. */
const logprobsSeen: (readonly (number | null)[])[] = [];

async function start(tpSize: number): Promise<RunningServer> {
  const devices = [await testDeviceIndex()];
  const sizes = { tpSize, maxNumSeqs: 4, maxModelLen: 128, maxNumBatchedTokens: 64 };
  const args = { ...DEFAULT_ENGINE_ARGS, ...sizes, model: DEMO_MODEL, devices };
  return await startServer(
    { ...args, kvCacheDType: "f32" },
    {
      ...{ host: "127.0.0.1", port: 0, servedModelNames: [model], apiKeys: [], maxQueue: 64 },
      ...{ allowedOrigins: [], maxRequestBytes: 1 << 20, numReplicas: 1, firstReplica: 0 },
      ...{ chatTemplate: "plain", drainTimeoutMs: 1000, toolCallParser: null },
    },
  );
}

describe.each([1, 2])("tp %i", (tpSize) => {
  let server: RunningServer;
  let client: OpenAI;
  beforeAll(async () => {
    server = await start(tpSize);
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  }, LOAD_TIMEOUT_MS);
  afterAll(async () => {
    const { stats } = server.replicas.model.llm.engine;
    expect(stats).toMatchObject({ numRunning: 0, numWaiting: 0, numUsedBlocks: 0 });
    await server.stop();
  }, LOAD_TIMEOUT_MS);

  test("logit_bias forces a token and forbids one", async () => {
    for (const id of SPREAD) {
      const { choices } = await client.completions.create({
        ...{ ...greedy, max_tokens: 3, logprobs: 0 },
        logit_bias: { [id]: 100 },
      });
      const token = tokenizer.decode([id]);
      expect(choices[0]?.logprobs?.tokens).toEqual([token, token, token]);
    }
    const plain = await client.completions.create({ ...greedy, logprobs: 0 });
    const tokens = plain.choices[0]?.logprobs?.tokens ?? [];
    const first = tokenizer.encode(prompt + (tokens[0] ?? "")).at(-1) ?? 0;
    const without = await client.completions.create({
      ...{ ...greedy, logprobs: 0 },
      logit_bias: { [first]: -100 },
    });
    expect(without.choices[0]?.logprobs?.tokens).not.toContain(tokenizer.decode([first]));
  });

  test("min_tokens holds stop tokens back, and those alone", async () => {
    const { choices } = await client.completions.create({ ...greedy, logprobs: 0 });
    const ids = choices[0]?.logprobs?.tokens?.map((token) => tokenizer.encode(token).at(-1) ?? 0);
    const stopping = { stop_token_ids: ids, ignore_eos: true };
    const tokensOf = async (body: object): Promise<number> => {
      const { usage } = await client.completions.create({ ...greedy, ...stopping, ...body });
      return usage?.completion_tokens ?? 0;
    };
    expect(await tokensOf({})).toBe(1);
    expect(await tokensOf({ min_tokens: 5 })).toBeGreaterThan(5);
  });

  test("logprobs: the greedy token is the likeliest, and every layout gives the same", async () => {
    const { choices } = await client.completions.create({ ...greedy, logprobs: 3 });
    const { logprobs } = choices[0] ?? {};
    const values = logprobs?.token_logprobs ?? [];
    expect(values).toHaveLength(8);
    for (const [i, value] of values.entries()) {
      const top = logprobs?.top_logprobs?.[i] ?? {};
      expect(value).toBe(Math.max(...Object.values(top)));
      expect(Object.values(top).reduce((sum, each) => sum + Math.exp(each), 0)).toBeLessThan(1);
    }
    for (const [i, value] of (logprobsSeen[0] ?? values).entries()) {
      expect(values[i]).toBeCloseTo(value ?? NaN, 3);
    }
    logprobsSeen.push(values);
    const chat = await client.chat.completions.create({
      ...{ model, temperature: 0, max_completion_tokens: 8, logprobs: true, top_logprobs: 2 },
      messages: [{ role: "user", content: prompt }],
    });
    const content = chat.choices[0]?.logprobs?.content ?? [];
    expect(content.map(({ token }) => token)).toEqual(logprobs?.tokens);
    expect(content.map(({ logprob }) => logprob)).toEqual(values);
    expect(content.every(({ top_logprobs }) => top_logprobs.length === 2)).toBe(true);
  });

  test("echo with logprobs: the prompt's own, as scoring tools ask for them", async () => {
    const ids = tokenizer.encode(prompt);
    const body = { ...{ ...greedy, echo: true, logprobs: 2 } };
    const { choices } = await client.completions.create(body);
    const { text = "", logprobs } = choices[0] ?? {};
    expect(text.startsWith(prompt)).toBe(true);
    expect(logprobs?.tokens).toHaveLength(ids.length + 8);
    const [first, ...values] = logprobs?.token_logprobs ?? [];
    expect(first).toBe(null);
    expect(values.every((value) => Number.isFinite(value) && value < 0)).toBe(true);
    // What was generated scores the same when it is given as a prompt.
    const only = await client.completions.create({ ...body, prompt: text, max_tokens: 0 });
    const scored = only.choices[0]?.logprobs?.token_logprobs ?? [];
    if (scored.length !== values.length + 1) return; // another tokenization of the same text
    for (const [i, value] of scored.entries()) {
      if (i > 0) expect(value).toBeCloseTo(values[i - 1] ?? NaN, 3);
    }
  });

  test("json_schema: whole, streamed and n at once are JSON of the schema, at any temperature", async () => {
    const response_format = { type: "json_schema" as const, json_schema };
    const body = { ...{ model, max_completion_tokens: 60, temperature: 1.5, seed: 5 }, n: 3 };
    const messages = [{ role: "user" as const, content: prompt }];
    const whole = await client.chat.completions.create({ ...body, messages, response_format });
    const texts = whole.choices.map(({ message }) => message.content ?? "");
    for (const [index, text] of texts.entries()) {
      const { ok, kind } = JSON.parse(text) as Record<string, unknown>;
      expect([typeof ok, ["fox", "king"].includes(kind as string)]).toEqual(["boolean", true]);
      expect(whole.choices[index]?.finish_reason).toBe("stop");
    }
    const stream = client.chat.completions.stream({ ...body, messages, response_format });
    const streamed = await stream.finalChatCompletion();
    expect(streamed.choices.map(({ message }) => message.content)).toEqual(texts);
  });

  test("json_object: other requests of the batch are not bound by it", async () => {
    const bound = client.completions.create({
      ...{ ...greedy, max_tokens: 40 },
      ...{ response_format: { type: "json_object" } },
    } as OpenAI.CompletionCreateParamsNonStreaming);
    const [json, free, again] = await Promise.all([
      bound,
      client.completions.create(greedy),
      client.completions.create(greedy),
    ]);
    const { text = "", finish_reason } = json.choices[0] ?? {};
    expect(text).toMatch(/^\s*\{\s*("|\})/); // a story teller's JSON may take more than 40 tokens
    if (finish_reason === "stop") expect(JSON.parse(text)).toBeTypeOf("object");
    expect(free.choices[0]?.text).toBe(again.choices[0]?.text);
    expect(free.choices[0]?.text).not.toContain("{");
  });

  test("a mask of which bans leave nothing ends the request with a 400, and no other", async () => {
    const short = { type: "object", properties: {}, additionalProperties: false };
    const call = client.completions.create({
      ...{ ...greedy, max_tokens: 60, min_tokens: 50 },
      response_format: { type: "json_schema", json_schema: { name: "short", schema: short } },
    } as OpenAI.CompletionCreateParamsNonStreaming);
    const [other, failed] = await Promise.allSettled([client.completions.create(greedy), call]);
    expect(other.status).toBe("fulfilled");
    expect(failed).toMatchObject({ status: "rejected", reason: { status: 400 } });
    expect(String((failed as PromiseRejectedResult).reason)).toContain("minTokens");
  });
});
