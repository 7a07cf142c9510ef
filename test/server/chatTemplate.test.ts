import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { ChatTemplate, loadChatTemplate } from "../../src/server/api/chatTemplate.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "tandem-template-"));
});
afterAll(() => {
  rmSync(dir, { recursive: true });
});
beforeEach(() => {
  for (const name of ["chat_template.jinja", "tokenizer_config.json"]) {
    rmSync(join(dir, name), { force: true });
  }
});

const messages = [{ role: "user" as const, content: "Hi" }];
const render = (template: ChatTemplate | null): string | undefined =>
  template?.render(messages, { addGenerationPrompt: true });
const config = (fields: object): void => {
  writeFileSync(join(dir, "tokenizer_config.json"), JSON.stringify(fields));
};

test("there may be none", async () => {
  expect(await loadChatTemplate(dir)).toBe(null);
});

test("from tokenizer_config.json, with its special tokens", async () => {
  config({ chat_template: "{{ bos_token }}{{ messages[0].content }}", bos_token: "<s>" });
  expect(render(await loadChatTemplate(dir))).toBe("<s>Hi");
  const list = [{ name: "tool_use", template: "t" }, { name: "default", template: "d" }]; // prettier-ignore
  config({ chat_template: list, bos_token: { content: "<s>" } });
  expect(render(await loadChatTemplate(dir))).toBe("d");
});

test("chat_template.jinja wins over it, and a given file over both", async () => {
  config({ chat_template: "config" });
  writeFileSync(join(dir, "chat_template.jinja"), "file");
  expect(render(await loadChatTemplate(dir))).toBe("file");
  const other = join(dir, "other.jinja");
  writeFileSync(other, "other");
  expect(render(await loadChatTemplate(dir, other))).toBe("other");
  await expect(loadChatTemplate(dir, join(dir, "missing"))).rejects.toThrow("--chat-template");
});

test("tools, tool calls and parts reach it in the forms that templates expect", () => {
  const source =
    "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}|{{ c.function.name }}:{{ c.function.arguments.x }}{% endfor %}{% endfor %}{{ tools[0].function.name }}";
  const call = { id: "1", type: "function", function: { name: "f", arguments: '{"x":7}' } };
  const parts = [
    { type: "text" as const, text: "a" },
    { type: "text" as const, text: "b" },
  ];
  const text = new ChatTemplate(source, {}, "t").render(
    [
      { role: "user", content: parts },
      { role: "assistant", content: null, tool_calls: [call] },
    ],
    { tools: [{ type: "function", function: { name: "f" } }], addGenerationPrompt: false },
  );
  expect(text).toBe("a\nb|f:7f");
});

test("a template's own complaint is the client's error; a broken one the user's", () => {
  const strict = new ChatTemplate("{{ raise_exception('roles must alternate') }}", {}, "t");
  expect(() => render(strict)).toThrow("roles must alternate");
  expect(() => new ChatTemplate("{% if %}", {}, "broken.jinja")).toThrow("broken.jinja");
});
