import fc from "fast-check";
import { expect, test } from "vitest";
import { PlanOrder } from "../../src/runtime/planOrder.ts";

/** Submits `numSegments` segments with a random wait before each, and notes them in `log`. */
async function replay(
  order: ReturnType<PlanOrder["begin"]>,
  plan: number,
  waits: readonly number[],
  log: string[],
): Promise<void> {
  try {
    for (const [index, turns] of waits.entries()) {
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      if (turns === 13) throw new Error("failed");
      await order.beforeSubmit(index);
      log.push(`${plan}.${index}`);
      order.submitted(index);
    }
    order.end();
  } catch (error) {
    order.fail(error as Error);
    throw error;
  }
}

test("a plan submits a segment only after the older one has, or has ended; failures spread", async () => {
  const waits = fc.array(fc.nat(13), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(fc.array(waits, { minLength: 2, maxLength: 5 }), async (plans) => {
      const order = new PlanOrder();
      const log: string[] = [];
      const replays = plans.map((each, plan) => replay(order.begin(), plan, each, log));
      const outcomes = await Promise.allSettled(replays); // all end: none waits for ever
      const failed = plans.findIndex((each) => each.includes(13));
      const isOut = ({ status }: { readonly status: string }): boolean => status === "rejected";
      expect(outcomes.findIndex(isOut)).toBe(failed);
      const next = failed < 0 ? undefined : outcomes[failed + 1];
      if (next !== undefined && plans[failed + 1]?.length !== 0) {
        // unless it was through before
        const isThrough = log.includes(`${failed + 1}.${(plans[failed + 1]?.length ?? 0) - 1}`);
        expect(isOut(next) || isThrough).toBe(true);
      }
      for (const [at, entry] of log.entries()) {
        const [plan = 0, index = 0] = entry.split(".").map(Number);
        const older = log.indexOf(`${plan - 1}.${index}`);
        if (older >= 0) expect(older).toBeLessThan(at);
      }
    }),
  );
});

test("a plan alone never waits", () => {
  const order = new PlanOrder();
  const first = order.begin();
  expect(first.beforeSubmit(0)).toBeUndefined();
  first.submitted(0);
  const second = order.begin();
  expect(second.beforeSubmit(0)).toBeUndefined();
  expect(second.beforeSubmit(1)).toBeInstanceOf(Promise);
  first.end();
  expect(second.beforeSubmit(1)).toBeUndefined();
});
