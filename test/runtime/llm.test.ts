import { expect, test } from "vitest";
import { PromptError } from "../../src/common/errors.ts";
import { LLM } from "../../src/runtime/llm.ts";
import { letterCodec, SimulatedExecutor } from "../support/simulatedExecutor.ts";

const limits = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 16,
  blockSize: 16,
  numBlocks: 16,
  maxModelLen: 64,
  vocabSize: 27,
  maxInFlight: 2,
};

test("text and its token ids give the same completion, streamed or gathered", async () => {
  const llm = new LLM(new SimulatedExecutor(limits), letterCodec);
  const sampling = { seed: 5, maxTokens: 12 };
  const stream = llm.generate("abc", sampling);
  let text = "";
  for await (const output of stream) text += output.text;
  expect(text.length).toBeGreaterThan(0);
  const [fromText, fromIds] = await llm.generateAll(["abc", [1, 2, 3]], sampling);
  expect([fromText?.text, fromIds?.text]).toEqual([text, text]);
  expect(fromText?.promptTokenIds).toEqual([1, 2, 3]);
  expect(fromText?.tokenIds).toEqual(fromIds?.tokenIds);
  expect(fromText?.sampling.seed).toBe(5);
  await llm.shutdown();
});

test("one prompt that cannot run stops them all before a token", async () => {
  const llm = new LLM(new SimulatedExecutor(limits), letterCodec);
  await expect(llm.generateAll(["abc", []])).rejects.toThrow(PromptError);
  expect(llm.engine.stats).toMatchObject({ numWaiting: 0, numRunning: 0 });
  await llm.shutdown();
});
