/** verifyLayout against planted faults: each is named by tap, layer, rank and collective. */
import { describe, expect, test } from "vitest";
import { verifyLayout, type VerifyReport } from "../../src/runtime/verify.ts";
import type { RankHooks } from "../../src/runtime/worker.ts";
import { corruptedHop, shiftedRows, skippedAllReduce, swappedHalves } from "../support/faults.ts";
import { fixtureDir } from "../support/goldens.ts";
import { testArgs, type TestLayout, testOpener } from "../support/layouts.ts";

// 8 query heads of 8 over 4 KV heads, 3 layers: at tp 2 a rank holds two KV heads.
const MODEL = fixtureDir("llama-gqa-tied");
const PROMPT = [5, 17, 3, 200, 44, 91, 8, 8, 301, 2, 77];

async function verify(layout: TestLayout, hooks: RankHooks = {}): Promise<VerifyReport> {
  const args = await testArgs(MODEL, layout);
  return await verifyLayout(args, PROMPT, { hooks: { opener: testOpener, ...hooks } });
}

describe("a layout without a fault", () => {
  test.each([
    { layout: { tpSize: 2 }, numHops: 0 },
    { layout: { tpSize: 3, ppSize: 2 }, numHops: 1 },
    { layout: { ppSize: 3 }, numHops: 2 },
  ])("$layout is ok", async ({ layout, numHops }) => {
    const { ok, first, taps, numTaps } = await verify(layout);
    expect({ ok, first }).toEqual({ ok: true, first: null });
    // the embedding, logits, four taps a layer, and what each later stage received
    expect(numTaps).toBe(2 + 4 * 3 + numHops);
    expect(taps.filter(({ received }) => received)).toHaveLength(numHops);
    expect(Math.max(...taps.map(({ maxRelError }) => maxRelError))).toBeLessThan(1e-4);
  });
});

describe("a planted fault is named", () => {
  const layer = "model.layers.1";
  const tp2 = { tpSize: 2 };
  // Tied: only the slice that lm_head reads begins past row 0.
  const lmHeadFault = shiftedRows(1, "model.embed_tokens.weight", 1);
  const cases = [
    {
      fault: "a wrong shard offset on rank 1",
      layout: tp2,
      hooks: shiftedRows(1, `${layer}.self_attn.q_proj.weight`, 8),
      found: { tap: `${layer}.self_attn.heads`, layer: 1, rank: 1, collective: null },
    },
    {
      fault: "an FFN shard that is off by one unit on rank 1",
      layout: tp2,
      hooks: shiftedRows(1, `${layer}.mlp.up_proj.weight`, 8),
      found: { tap: `${layer}.mlp.activation`, layer: 1, rank: 1, collective: null },
    },
    {
      fault: "a wrong slice of lm_head on rank 1",
      layout: tp2,
      hooks: lmHeadFault,
      found: { tap: "logits", layer: null, rank: 1, collective: null },
    },
    {
      fault: "KV heads that changed places on rank 1",
      layout: tp2,
      hooks: swappedHalves(1, `${layer}.self_attn.k_proj.weight`),
      found: { tap: `${layer}.self_attn.heads`, layer: 1, rank: 1, collective: null },
    },
    {
      fault: "an all-reduce that both ranks skip",
      layout: tp2,
      hooks: skippedAllReduce([0, 1], `${layer}.mlp.down_proj`),
      found: {
        tap: `${layer}.mlp.down_proj.residual`,
        layer: 1,
        rank: null,
        collective: `allReduce ${layer}.mlp.down_proj (tp)`,
      },
    },
    {
      fault: "an all-reduce that rank 1 skips",
      layout: tp2,
      hooks: skippedAllReduce([1], `${layer}.self_attn.o_proj`),
      found: {
        tap: `${layer}.self_attn.o_proj.residual`,
        layer: 1,
        rank: 1,
        collective: `allReduce ${layer}.self_attn.o_proj (tp)`,
      },
    },
    {
      fault: "a hop between stages that loses an element",
      layout: { ppSize: 3 },
      hooks: corruptedHop(2),
      found: {
        tap: `${layer}.mlp.down_proj.residual`,
        layer: 1,
        rank: 2,
        collective: "recv residual (pp)",
      },
    },
  ];

  test.each(cases)("$fault", async ({ layout, hooks, found }) => {
    const { ok, first } = await verify(layout, hooks);
    expect(ok).toBe(false);
    expect(first).toMatchObject(found);
    expect(first?.message).toContain(found.tap);
    if (found.collective !== null) expect(first?.message).toContain(found.collective);
  });
});
