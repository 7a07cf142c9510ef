import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { memoryFiles } from "../../models/weights/files.ts";
import { nodeFiles } from "../../models/weights/filesNode.ts";
import { ConfigError } from "../../src/common/errors.ts";
import { loadTokenizer, type StreamOptions, Tokenizer } from "../../src/runtime/tokenizer.ts";

const fable = new URL("../../models/checkpoints/fable-5m", import.meta.url).pathname;
/** Someone else's weights, so not in this repository. */
const stories = new URL("../../../shared/models/stories260k", import.meta.url).pathname;
const hasStories = existsSync(stories);

const tokenizer = await loadTokenizer(nodeFiles, fable, [1, 7]);

function streamed(from: Tokenizer, ids: readonly number[], options: StreamOptions = {}): string[] {
  const stream = from.streamDecoder(options);
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

interface Golden {
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly text: string;
}

const golden = Object.entries(
  JSON.parse(readFileSync(`${fable}/golden.json`, "utf8")) as Record<string, Golden>,
).filter(([prompt]) => !prompt.startsWith("_"));

test.each(golden)("fable-5m: %j has transformers' ids and text", (prompt, expected) => {
  expect(tokenizer.encode(prompt)).toEqual(expected.prompt_ids);
  expect(tokenizer.decode(expected.greedy_ids, { skipSpecialTokens: false })).toBe(expected.text);
  const pieces = streamed(tokenizer, expected.greedy_ids, { skipSpecialTokens: false });
  expect(pieces.join("")).toBe(expected.text);
});

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc
    .array(
      fc.constantFrom("Once", " upon", " ", "\n", "  ", "the", "é", "中", "👩‍👩‍👧", "\uFFFD", "'s"),
    )
    .map((words) => words.join("")),
);

test("decode(encode(s)) = s", () => {
  fc.assert(
    fc.property(text, (s) => {
      const ids = tokenizer.encode(s, { addSpecialTokens: false });
      expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(s);
    }),
    { numRuns: 300 },
  );
});

test("a stream is the whole, and never shows half a character", () => {
  fc.assert(
    fc.property(text, (s) => {
      const pieces = streamed(tokenizer, tokenizer.encode(s));
      expect(pieces.join("")).toBe(s);
      if (!s.includes("\uFFFD")) expect(pieces.join("|")).not.toContain("\uFFFD");
    }),
    { numRuns: 300 },
  );
});

test("a stream of any ids, whole characters or not, is their decoding", () => {
  const anyIds = fc.array(fc.oneof(fc.nat(5000), fc.integer({ min: 2, max: 257 })), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(anyIds, (ids) => {
      expect(streamed(tokenizer, ids).join("")).toBe(tokenizer.decode(ids));
    }),
    { numRuns: 300 },
  );
});

test("an emoji of four tokens comes at its last byte; one cut short comes at the end", () => {
  const ids = tokenizer.encode("🦊", { addSpecialTokens: false });
  expect(ids.length).toBeGreaterThan(1);
  const pieces = streamed(tokenizer, ids);
  expect(pieces).toEqual([...ids.slice(1).map(() => ""), "🦊", ""]);
  const cut = streamed(tokenizer, ids.slice(0, -1));
  expect(cut).toEqual([...ids.slice(1).map(() => ""), "\uFFFD"]);
});

test("special tokens are added and skipped unless told otherwise", () => {
  expect(tokenizer.bosTokenId).toBe(0);
  expect(tokenizer.eosTokenIds).toEqual([1, 7]);
  expect(tokenizer.encode("a")[0]).toBe(0);
  expect(tokenizer.encode("a", { addSpecialTokens: false })).not.toContain(0);
  expect(tokenizer.encode("")).toEqual([0]);
  expect(tokenizer.decode([0, 1])).toBe("");
  expect(tokenizer.decode([1], { skipSpecialTokens: false })).toBe("<|end_of_text|>");
  expect(tokenizer.decode([])).toBe("");
});

test("ids outside the vocabulary spell nothing", () => {
  const ids = tokenizer.encode("fox", { addSpecialTokens: false });
  expect(tokenizer.decode([4096, ...ids, 99_999])).toBe("fox");
});

test.each<[string, Record<string, string>, string]>([
  ["no tokenizer.json", {}, "m/tokenizer.json: expected the model's tokenizer, got no such file"],
  ["no JSON", { "m/tokenizer.json": "{" }, "m/tokenizer.json: expected valid JSON"],
  ["an empty object", { "m/tokenizer.json": "{}" }, "tokenizer.json: expected a tokenizer"],
  ["a list", { "m/tokenizer.json": "[]" }, "tokenizer.json: expected a tokenizer"],
])("a directory with %s is refused", async (_, contents, message) => {
  const loaded = loadTokenizer(memoryFiles(contents), "m");
  await expect(loaded).rejects.toThrow(ConfigError);
  await expect(loaded).rejects.toThrow(message);
});

/** The rules of Llama 2's tokenizer over a handful of tokens: spaces lead words, bytes fall back. */
const sentencePiece = new Tokenizer(
  {
    added_tokens: [{ id: 1, content: "<s>", special: true, normalized: false }],
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      vocab: {
        "<unk>": 0,
        "<s>": 1,
        "▁Once": 2,
        "▁upon": 3,
        "<0xE2>": 4,
        "<0x82>": 5,
        "<0xAC>": 6,
      },
      merges: [],
    },
  },
  { bos_token: { content: "<s>" } },
);

test("spaces that lead words survive the stream, but for the text's first", () => {
  expect(sentencePiece.bosTokenId).toBe(1);
  expect(streamed(sentencePiece, [2, 3, 1, 3])).toEqual(["Once", " upon", "", " upon", ""]);
  expect(streamed(sentencePiece, [3], { context: [1, 2] })).toEqual([" upon", ""]);
});

test("bytes that fall back come as whole characters", () => {
  expect(streamed(sentencePiece, [2, 4, 5, 6, 3, 4])).toEqual([
    "Once",
    "",
    "",
    "€",
    " upon",
    "",
    "\uFFFD",
  ]);
});

test("stories260k (SentencePiece, byte fallback): text, spaces and stream", async (context) => {
  context.skip(!hasStories, "the stories260k checkpoint is not part of this repository");
  const story = await loadTokenizer(nodeFiles, stories);
  const { ids } = JSON.parse(readFileSync(`${stories}/expected_greedy.json`, "utf8")) as {
    ids: number[];
  };
  const expected = readFileSync(`${stories}/expected_greedy_200.txt`, "utf8").trimEnd();
  expect(story.decode(ids).trimEnd()).toBe(expected);
  expect(
    streamed(story, ids, { context: [1] })
      .join("")
      .trimEnd(),
  ).toBe(expected);
  expect(story.encode(expected).slice(0, 20)).toEqual([1, ...ids.slice(0, 19)]);

  const prompt = story.encode("Once upon");
  const rest = story.encode("Once upon a time").slice(prompt.length);
  expect(streamed(story, rest, { context: prompt }).join("")).toBe(" a time");
  const euro = story.encode("a€b é🦊 c");
  expect(streamed(story, euro).join("")).toBe("a€b é🦊 c");
});
