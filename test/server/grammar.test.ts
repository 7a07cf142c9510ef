import { expect, test } from "vitest";
import { DEMO_MODEL } from "../../src/cli/modelArgs.ts";
import { GrammarFactory } from "../../src/server/api/grammar.ts";
import { readVocabulary } from "../../src/server/api/vocabulary.ts";
import { allowsToken } from "../../src/runtime/tokenMask.ts";
import { tokenizer } from "./support/simulatedServer.ts";

const grammars = GrammarFactory.load(DEMO_MODEL, 4096, [1]);
const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
};

/** Draws allowed tokens with a fixed generator, the shortest way to the end being most likely. */
async function draw(
  format: Parameters<GrammarFactory["constrain"]>[0],
  seed: number,
): Promise<string> {
  const constraint = await (await grammars).constrain(format);
  if (constraint === null) throw new Error("no constraint");
  const completion: number[] = [];
  let state = seed;
  for (let i = 0; i < 400; i++) {
    const mask = constraint.allowedTokens(completion);
    if (mask === null) throw new Error("no mask");
    const allowed = Array.from({ length: 4096 }, (_, id) => id).filter((id) =>
      allowsToken(mask, id),
    );
    expect(allowed.length).toBeGreaterThan(0);
    if (allowed.includes(1)) break;
    const closing = allowed.filter((id) => /^["}\]]/.test(tokenizer.decode([id])));
    const pool = closing.length > 0 && i > 20 ? closing : allowed;
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    completion.push(pool[(state >>> 8) % pool.length] ?? 0);
  }
  constraint.dispose();
  return tokenizer.decode(completion);
}

test("whatever is drawn under a schema's masks is JSON of that schema", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const format = { type: "json_schema" as const, json_schema: { schema } };
    const value = JSON.parse(await draw(format, seed)) as Record<string, unknown>;
    expect(Object.keys(value)).toEqual(["name", "age"]);
    expect([typeof value["name"], Number.isInteger(value["age"])]).toEqual(["string", true]);
  }
});

test("a completion that starts again, on another replica, starts the grammar again", async () => {
  const constraint = await (await grammars).constrain({ type: "json_object" });
  const first = constraint?.allowedTokens([]);
  const brace = tokenizer.encode("{", { addSpecialTokens: false });
  const second = constraint?.allowedTokens(brace);
  expect(second).not.toEqual(first);
  expect(constraint?.allowedTokens([])).toEqual(first);
  constraint?.dispose();
});

test("text needs no constraint; a schema that is none is the client's error", async () => {
  expect(await (await grammars).constrain({ type: "text" })).toBe(null);
  const bad = { type: "json_schema" as const, json_schema: { schema: { type: "nonsense" } } };
  await expect((await grammars).constrain(bad)).rejects.toMatchObject({ fields: { status: 400 } });
  expect(JSON.parse(await draw({ type: "json_object" }, 9))).toBeTypeOf("object"); // still works
});

test("any number of schemas that are none: each a 400 that says why, and good ones still work", async () => {
  const factory = await grammars;
  for (let i = 0; i < 60; i++) {
    const schema = { type: `nonsense ${i}` };
    const call = factory.constrain({ type: "json_schema", json_schema: { schema } });
    await expect(call).rejects.toThrow(`Unsupported type "nonsense ${i}"`);
  }
  const huge = { type: "object", description: "a".repeat(70_000) };
  const call = factory.constrain({ type: "json_schema", json_schema: { schema: huge } });
  await expect(call).rejects.toThrow("70");
  const fresh = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
  const value = JSON.parse(
    await draw({ type: "json_schema", json_schema: { schema: fresh } }, 3),
  ) as object;
  expect(Object.keys(value)).toEqual(["n"]);
});

test("json_object is any object, not the empty one alone", async () => {
  const constraint = await (await grammars).constrain({ type: "json_object" });
  const opening = tokenizer.encode('{"', { addSpecialTokens: false });
  const mask = constraint?.allowedTokens(opening);
  const letter = tokenizer.encode("a", { addSpecialTokens: false })[0] ?? 0;
  expect(mask && allowsToken(mask, letter)).toBe(true);
  constraint?.dispose();
});

test("vocabularies of each kind, in the order of ids", () => {
  const bpe = { model: { vocab: { b: 1, a: 0 } }, added_tokens: [{ id: 3, content: "<s>", special: true }] }; // prettier-ignore
  expect(readVocabulary({ ...bpe, decoder: { type: "ByteLevel" } })).toEqual({
    tokens: ["a", "b", "", ""],
    kind: "byte_level",
  });
  const unigram = { model: { vocab: [["a", 0], ["b", -1]], byte_fallback: true } }; // prettier-ignore
  expect(readVocabulary(unigram)).toEqual({ tokens: ["a", "b"], kind: "byte_fallback" });
  expect(() => readVocabulary({})).toThrow("tokenizer.json");
});
