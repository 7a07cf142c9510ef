import { expect, test } from "vitest";
import { post, startSimulated, tokenizer, until } from "./support/simulatedServer.ts";

const body = { prompt: "Once upon a time", max_tokens: 200, seed: 5, ignore_eos: true };

test("an API key guards what costs and what tells; health and metrics stay open", async () => {
  const server = await startSimulated({ options: { apiKeys: ["one", "two"] } });
  const status = async (path: string, key?: string): Promise<number> => {
    const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
    return (await fetch(server.url + path, { headers })).status;
  };
  expect(await status("/v1/models")).toBe(401);
  expect(await status("/status")).toBe(401);
  expect(await status("/v1/models", "on")).toBe(401);
  expect(await status("/v1/models", "two")).toBe(200);
  for (const path of ["/health", "/ready", "/metrics", "/"]) expect(await status(path)).toBe(200);
  expect((await post(server, "/tokenize", { prompt: "a" })).status).toBe(401);
  await server.client.models.list();
  await server.stop();
});

test("too many requests get a 429 with Retry-After; those that wait are served", async () => {
  const server = await startSimulated({ options: { maxQueue: 2 } });
  const calls = Array.from({ length: 20 }, () => post(server, "/v1/completions", body));
  const answers = await Promise.all(calls);
  const refused = answers.filter(({ status }) => status === 429);
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(4);
  expect(refused.length).toBeGreaterThan(0);
  expect(refused.every(({ headers }) => headers.get("retry-after") === "1")).toBe(true);
  await server.stop();
});

test("stopping lets the running requests end and takes no new ones", async () => {
  const server = await startSimulated();
  const running = post(server, "/v1/completions", body);
  await until(() => !server.isIdle());
  const stopped = server.stop();
  const refused = await post(server, "/v1/completions", body);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
  expect((await fetch(`${server.url}/ready`)).status).toBe(503);
  const answer = (await (await running).json()) as { usage: { completion_tokens: number } };
  expect(answer.usage.completion_tokens).toBe(200);
  await stopped;
  await expect(fetch(server.url)).rejects.toThrow();
});

test("what does not end within the drain's time is told so", async () => {
  const server = await startSimulated({ options: { drainTimeoutMs: 0 } });
  const running = post(server, "/v1/completions", body);
  await until(() => !server.isIdle());
  await server.stop();
  expect((await running).status).toBe(503);
});

test("pages of allowed origins may call, others not", async () => {
  const server = await startSimulated({ options: { allowedOrigins: ["https://a.example"] } });
  const allowed = async (origin: string): Promise<string | null> => {
    const response = await fetch(`${server.url}/v1/models`, { headers: { origin } });
    return response.headers.get("access-control-allow-origin");
  };
  expect(await allowed("https://a.example")).toBe("https://a.example");
  expect(await allowed("https://b.example")).toBe(null);
  await server.stop();
});

test("tokenize and detokenize", async () => {
  const server = await startSimulated();
  const tokenize = async (given: object): Promise<{ count: number; tokens: number[] }> =>
    (await (await post(server, "/tokenize", given)).json()) as { count: number; tokens: number[] };
  const prompt = "The fox, née Reynard";
  const { tokens, count } = await tokenize({ prompt });
  expect(tokens).toEqual(tokenizer.encode(prompt));
  expect(count).toBe(tokens.length);
  const bare = await tokenize({ prompt, add_special_tokens: false });
  const back = await post(server, "/detokenize", { tokens: bare.tokens });
  expect(await back.json()).toEqual({ prompt });
  const chat = await tokenize({ messages: [{ role: "user", content: "Hi" }] });
  expect(tokenizer.decode(chat.tokens)).toContain("[user]Hi[assistant]");
  await server.stop();
});

test("status tells replicas, ranks and rates; its stream ends when the server does", async () => {
  const server = await startSimulated();
  const { body: events } = await fetch(`${server.url}/status/stream`);
  const reader = (events ?? new ReadableStream()).pipeThrough(new TextDecoderStream()).getReader();
  const first = await reader.read();
  expect(first.value).toMatch(/^data: \{"model":"sim".*"used_blocks":0.*"ranks":\[\{"rank":0/);
  await server.stop();
  await expect(reader.read().then(({ done }) => done)).rejects.toThrow();
});

test("without a chat template chat is a clear 400", async () => {
  const server = await startSimulated({ hasChatTemplate: false });
  const messages = [{ role: "user" as const, content: "Hi" }];
  const call = server.client.chat.completions.create({ model: "sim", messages });
  await expect(call).rejects.toMatchObject({ status: 400, code: "no_chat_template" });
  await server.stop();
});
