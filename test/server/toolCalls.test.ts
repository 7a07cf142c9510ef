import fc from "fast-check";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ChatMessageWriter } from "../../src/server/api/chatMessage.ts";
import { TOOL_CALL_FORMATS, type ToolCallParser } from "../../src/server/api/toolCalls.ts";
import { type SimulatedServer, startSimulated } from "./support/simulatedServer.ts";

type Call = readonly [name: string, json: string];
const look: Call = ["look", '{"at":"fox"}'];
const ask: Call = ["ask", "{}"];
const LOOK = '{"name": "look", "arguments": {"at": "fox"}}';

const texts: [parser: ToolCallParser, text: string, content: string, calls: readonly Call[]][] = [
  ["hermes", "Just a story.", "Just a story.", []],
  ["hermes", `<tool_call>\n${LOOK}\n</tool_call>`, "", [look]],
  ["hermes", `I see. <tool_call>${LOOK}</tool_call>`, "I see.", [look]],
  [
    "hermes",
    `<tool_call>${LOOK}</tool_call><tool_call>{"name":"ask"}</tool_call>`,
    "",
    [look, ask],
  ],
  ["hermes", `<tool_call>${LOOK}`, "", [look]], // the end of sequence came in place of the tag
  ["hermes", "a < b and <tool", "a < b and <tool", []],
  ["hermes", "<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []],
  ["llama3_json", "Just a story.", "Just a story.", []],
  ["llama3_json", '{"name": "look", "parameters": {"at": "fox"}}', "", [look]],
  ["llama3_json", `<|python_tag|>${LOOK}; {"name": "ask", "parameters": {}}`, "", [look, ask]],
  ["llama3_json", '{"at": "fox"}', '{"at": "fox"}', []],
  ["llama3_json", `I wrote ${LOOK}`, `I wrote ${LOOK}`, []],
];

describe("what a model writes", () => {
  test.each(texts)("%s: %j", (parser, text, content, calls) => {
    const { content: found, calls: foundCalls } = TOOL_CALL_FORMATS[parser].parse(text);
    expect(found).toBe(content);
    expect(foundCalls.map((call) => [call.name, call.arguments])).toEqual(calls);
  });

  test.each(texts)("%s, piece by piece, is the same: %j", (parser, text, content, calls) => {
    const holds = fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
      const writer = new ChatMessageWriter({ kind: "auto" }, TOOL_CALL_FORMATS[parser]);
      const ends = [...cuts.sort((a, b) => a - b), text.length];
      let begin = 0;
      const pieces = ends.map((end, i) => {
        const piece = writer.write(text.slice(begin, end), i === ends.length - 1);
        begin = end;
        return piece;
      });
      // A space before a call is out before the call is seen.
      expect(
        pieces
          .map((piece) => piece.content)
          .join("")
          .trimEnd(),
      ).toBe(content.trimEnd());
      const found = pieces.flatMap(({ toolCalls }) => toolCalls);
      expect(found.map((call) => [call.function.name, call.function.arguments])).toEqual(calls);
      expect(found.map(({ index }) => index)).toEqual(calls.map((_, i) => i));
      expect(writer.hasChosenCalls).toBe(calls.length > 0);
    });
    fc.assert(holds);
  });
});

const parameters = {
  type: "object",
  properties: { animal: { enum: ["fox", "hen"] } },
  required: ["animal"],
};
const tools = ["look", "listen"].map((name) => {
  return { type: "function" as const, function: { name, parameters } };
});

describe("calls that must be made, by the openai client", () => {
  let server: SimulatedServer;
  let client: OpenAI;
  beforeAll(async () => {
    server = await startSimulated({ limits: { maxModelLen: 1024, numBlocks: 256 } });
    ({ client } = server);
  });
  afterAll(async () => {
    await server.stop();
  });
  const messages = [{ role: "user" as const, content: "Hi" }];
  const chat = { model: "sim", messages, seed: 7, max_completion_tokens: 200, tools };

  test("one by its name: its arguments by the schema, whole and streamed", async () => {
    const named = {
      ...chat,
      tool_choice: { type: "function" as const, function: { name: "listen" } },
    };
    const whole = await client.chat.completions.create(named);
    const [call] = whole.choices[0]?.message.tool_calls ?? [];
    if (call?.type !== "function") throw new Error("no call");
    expect(call.function.name).toBe("listen");
    expect(["fox", "hen"]).toContain(
      (JSON.parse(call.function.arguments) as { animal: string }).animal,
    );
    expect(whole.choices[0]).toMatchObject({ finish_reason: "stop", message: { content: null } });
    const streamed = await client.chat.completions.stream(named).finalChatCompletion();
    const [same] = streamed.choices[0]?.message.tool_calls ?? [];
    if (same?.type !== "function") throw new Error("no call");
    expect(same.function).toMatchObject({ name: "listen", arguments: call.function.arguments });
  });

  test("any of them: that is why it ended; cut off, it is text", async () => {
    const required = { ...chat, tool_choice: "required" as const, n: 2 };
    const whole = await client.chat.completions.create({ ...required, parallel_tool_calls: false });
    for (const { message, finish_reason } of whole.choices) {
      expect([finish_reason, message.content]).toEqual(["tool_calls", null]);
      expect(message.tool_calls).toHaveLength(1);
      const [call] = message.tool_calls ?? [];
      if (call?.type !== "function") throw new Error("no function");
      expect(["look", "listen"]).toContain(call.function.name);
      expect(JSON.parse(call.function.arguments)).toHaveProperty("animal");
    }
    const cut = await client.chat.completions.create({ ...required, max_completion_tokens: 5 });
    expect(cut.choices[0]).toMatchObject({ finish_reason: "length" });
    expect(cut.choices[0]?.message.content?.length).toBeGreaterThan(0);
  });

  test("a tool that is not there, or none at all, is refused", async () => {
    const unknown = { type: "function" as const, function: { name: "fly" } };
    for (const body of [{ tool_choice: unknown }, { tool_choice: "required", tools: [] }]) {
      const call = client.chat.completions.create({ ...chat, ...body } as typeof chat);
      await expect(call).rejects.toMatchObject({ status: 400, param: "tool_choice" });
    }
  });

  test("without a parser what the model writes of its own accord stays text", async () => {
    const { choices } = await client.chat.completions.create(chat);
    expect(choices[0]?.message.content?.length).toBeGreaterThan(0);
    expect(choices[0]?.message.tool_calls).toBe(undefined);
  });
});
