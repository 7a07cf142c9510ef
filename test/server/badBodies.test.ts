import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ErrorBody } from "../../src/server/http/apiError.ts";
import { post, type SimulatedServer, startSimulated } from "./support/simulatedServer.ts";

let server: SimulatedServer;
beforeAll(async () => {
  server = await startSimulated();
});
afterAll(async () => {
  expect(server.isIdle()).toBe(true);
  await server.stop();
});

const completion = { model: "sim", prompt: "Once", max_tokens: 2 };
const chat = { model: "sim", messages: [{ role: "user", content: "Hi" }], max_tokens: 2 };

const wrong: [path: string, body: unknown, status: number, param: string | null][] = [
  ["/v1/completions", "", 400, null],
  ["/v1/completions", "{", 400, null],
  ["/v1/completions", "null", 400, null],
  ["/v1/completions", "[]", 400, null],
  ["/v1/completions", '"text"', 400, null],
  ["/v1/completions", {}, 400, "prompt"],
  ["/v1/completions", { ...completion, prompt: [] }, 400, "prompt"],
  ["/v1/completions", { ...completion, prompt: {} }, 400, "prompt"],
  ["/v1/completions", { ...completion, prompt: [1, "a"] }, 400, "prompt.1"],
  ["/v1/completions", { ...completion, prompt: [-1] }, 400, "prompt.0"],
  ["/v1/completions", { ...completion, prompt: [1.5] }, 400, "prompt.0"],
  ["/v1/completions", { ...completion, prompt: [4096] }, 400, null],
  ["/v1/completions", { ...completion, prompt: [[1], [4096]] }, 400, null],
  ["/v1/completions", { ...completion, max_tokens: 0 }, 400, "max_tokens"],
  ["/v1/completions", { ...completion, max_tokens: -1 }, 400, "max_tokens"],
  ["/v1/completions", { ...completion, max_tokens: 1e9 }, 400, "prompt"],
  ["/v1/completions", { ...completion, max_tokens: "4" }, 400, "max_tokens"],
  ["/v1/completions", { ...completion, temperature: -1 }, 400, "temperature"],
  ["/v1/completions", { ...completion, temperature: "hot" }, 400, "temperature"],
  ["/v1/completions", { ...completion, top_p: 0 }, 400, "top_p"],
  ["/v1/completions", { ...completion, top_k: 1.5 }, 400, "top_k"],
  ["/v1/completions", { ...completion, min_p: 2 }, 400, "min_p"],
  ["/v1/completions", { ...completion, n: 0 }, 400, "n"],
  ["/v1/completions", { ...completion, n: 1e6 }, 400, "n"],
  ["/v1/completions", { ...completion, presence_penalty: 3 }, 400, "presence_penalty"],
  ["/v1/completions", { ...completion, repetition_penalty: 0 }, 400, "repetition_penalty"],
  ["/v1/completions", { ...completion, seed: 0.5 }, 400, "seed"],
  ["/v1/completions", { ...completion, stop: "" }, 400, "stop"],
  ["/v1/completions", { ...completion, stop: [1] }, 400, "stop.0"],
  ["/v1/completions", { ...completion, logit_bias: { a: 1 } }, 400, "logit_bias.a"],
  ["/v1/completions", { ...completion, logit_bias: { 1: 500 } }, 400, "logit_bias.1"],
  ["/v1/completions", { ...completion, stream: "yes" }, 400, "stream"],
  ["/v1/completions", { ...completion, best_of: 3 }, 400, "best_of"],
  ["/v1/completions", { ...completion, suffix: "end" }, 400, "suffix"],
  ["/v1/chat/completions", {}, 400, "messages"],
  ["/v1/chat/completions", { ...chat, messages: [] }, 400, "messages"],
  ["/v1/chat/completions", { ...chat, messages: [{ role: "robot" }] }, 400, "messages.0.role"],
  [
    "/v1/chat/completions",
    { ...chat, messages: [{ role: "user", content: [{ type: "image_url" }] }] },
    400,
    "messages.0.content.0.type",
  ],
  ["/v1/chat/completions", { ...chat, tools: [{ type: "x" }] }, 400, "tools.0.type"],
  ["/v1/chat/completions", { ...chat, tool_choice: "required" }, 400, "tool_choice"],
  [
    "/v1/chat/completions",
    { ...chat, response_format: { type: "json_schema" } },
    400,
    "response_format.json_schema",
  ],
  ["/v1/chat/completions", { ...chat, model: "other" }, 404, "model"],
  ["/tokenize", {}, 400, "prompt"],
  ["/tokenize", { prompt: 5 }, 400, "prompt"],
  ["/detokenize", { tokens: ["a"] }, 400, "tokens.0"],
  ["/v1/embeddings", {}, 404, null],
];

test.each(wrong)("%s refuses %j with %i, naming %j", async (path, body, status, param) => {
  const response = await post(server, path, body);
  const { error } = (await response.json()) as ErrorBody;
  expect([response.status, error.param]).toEqual([status, param]);
  expect(error.type).toMatch(/_error$/);
  expect(error.message.length).toBeGreaterThan(10);
});

test("a body that is too large is refused, whether it says so or not", async () => {
  const large = { ...completion, prompt: "a".repeat(200_000) };
  expect((await post(server, "/v1/completions", large)).status).toBe(413);
  const chunks = (): ReadableStream =>
    new ReadableStream({
      start(controller): void {
        for (let i = 0; i < 20; i++) controller.enqueue(new TextEncoder().encode("a".repeat(9999)));
        controller.close();
      },
    });
  const init = { body: chunks(), duplex: "half" } as RequestInit;
  expect((await post(server, "/v1/completions", "", init)).status).toBe(413);
});

test("what is not JSON by its header is refused: other origins can send it unasked", async () => {
  const headers = { "content-type": "text/plain" };
  const response = await post(server, "/v1/completions", completion, { headers });
  expect(response.status).toBe(415);
});

test("no JSON at all brings down the server, and nothing is left running", async () => {
  const keys = fc.constantFrom("prompt", "max_tokens", "stop", "seed", "n", "logit_bias", "echo");
  const bodies = fc.dictionary(keys, fc.jsonValue({ maxDepth: 2 }));
  const survives = fc.asyncProperty(bodies, async (body) => {
    const response = await post(server, "/v1/completions", { max_tokens: 2, ...body });
    const answer = (await response.json()) as object;
    expect([200, 400]).toContain(response.status);
    expect(Object.keys(answer)).toContain(response.status === 200 ? "choices" : "error");
  });
  await fc.assert(survives, { numRuns: 100 });
});
