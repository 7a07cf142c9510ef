import fc from "fast-check";
import { expect, test } from "vitest";
import {
  PlanDecoder,
  PlanEncoder,
  type WirePlan,
} from "../../../src/runtime/executor/planCodec.ts";
import { gpuSamplingParams, resolveSamplingParams } from "../../../src/runtime/samplingParams.ts";
import type { ScheduledSequence, StepPlan } from "../../../src/runtime/stepPlan.ts";

const samplings = [1, 2].map((seed) => gpuSamplingParams(resolveSamplingParams({ seed })));

function partOf(
  slot: number,
  blockTable: readonly number[],
  isFirst: boolean,
  samplingIndex = 0,
): ScheduledSequence {
  const sampling = samplings[samplingIndex] ?? gpuSamplingParams(resolveSamplingParams());
  const tokens = { startPosition: 3, numTokens: 1, tokenIds: null, promptLength: 2 };
  return { slot, isFirst, ...tokens, blockTable, samples: true, sampling, samplePosition: 4 };
}

const planOf = (stepIndex: number, sequences: readonly ScheduledSequence[]): StepPlan => ({
  stepIndex,
  sequences,
  dependsOnStep: stepIndex - 1,
});

/** One encoder and one decoder, and JSON between them as in the queue. */
function channel(): (plan: StepPlan) => { plan: StepPlan; bytes: number } {
  const [encoder, decoder] = [new PlanEncoder(), new PlanDecoder()];
  return (plan) => {
    const text = JSON.stringify(encoder.encode(plan));
    return { plan: decoder.decode(JSON.parse(text) as WirePlan), bytes: text.length };
  };
}

/** What happens to a slot: its table grows by so many blocks, or another sequence begins with so many. */
const moves = fc.array(
  fc.array(
    fc.record({ slot: fc.nat(2), grows: fc.nat(3), begins: fc.boolean(), sampling: fc.nat(1) }),
    { maxLength: 3 }, // prettier-ignore
  ),
  { maxLength: 20 },
);

test("what is decoded is what was encoded, however slots change hands", () => {
  const holds = fc.property(moves, (steps) => {
    const send = channel();
    const tables = new Map<number, number[]>();
    let nextBlock = 0;
    for (const [stepIndex, parts] of steps.entries()) {
      const bySlot = new Map(parts.map((part) => [part.slot, part]));
      const sequences = [...bySlot.values()].map(({ slot, grows, begins, sampling }) => {
        const isFirst = begins || !tables.has(slot);
        const table = isFirst ? [] : (tables.get(slot) ?? []);
        for (let i = 0; i < grows; i++) table.push(nextBlock++);
        tables.set(slot, table);
        return partOf(slot, [...table], isFirst, sampling);
      });
      const plan = planOf(stepIndex, sequences);
      expect(structuredClone(send(plan).plan)).toEqual(plan);
    }
  });
  fc.assert(holds, { numRuns: 300 });
});

test("a table that was not lengthened but changed, or shortened, is sent whole", () => {
  const send = channel();
  for (const table of [[1, 2, 3], [1, 9, 8, 7], [1, 9], []]) {
    const plan = planOf(0, [partOf(0, table, false)]);
    expect(send(plan).plan).toEqual(plan);
  }
});

test("a step's message does not grow with the context", () => {
  const bytesAt = (numBlocks: number): number => {
    const send = channel();
    const table = Array.from({ length: numBlocks }, (_, i) => 10_000 + i);
    send(planOf(0, [partOf(0, table, true)]));
    return send(planOf(1, [partOf(0, [...table, 9999], false)])).bytes;
  };
  expect(bytesAt(8192)).toBe(bytesAt(16));
});

test("a part without its beginning is refused", () => {
  const plan = new PlanEncoder().encode(planOf(0, [partOf(0, [], true)]));
  const { slot } = plan.sequences[0] ?? { slot: 0 };
  const headless = { ...plan, sequences: plan.sequences.map((part) => ({ ...part, whole: undefined })) }; // prettier-ignore
  expect(() => new PlanDecoder().decode(headless as never)).toThrow(
    `slot ${slot} has no beginning`,
  );
});
