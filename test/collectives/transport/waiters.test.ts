/** How many rings a sleep is for: one operation's whole messages together, several operations' each. */
import { expect, test } from "vitest";
import { type Bell, Waiters } from "../../../src/collectives/transport/waiters.ts";
import type { Guard } from "../../../src/collectives/transport/transport.ts";

const guard = (): Guard => ({ checkAbort: () => undefined, inspect: () => undefined });

/** Notes what each sleep waits for, and ends it at once. */
class NotedBell implements Bell {
  readonly slept: number[] = [];
  numRings = 0;
  read(): number {
    return this.numRings;
  }
  sleep(_seen: number, _numPending: number, numRings: number): Promise<void> {
    this.slept.push(numRings);
    return new Promise((resolve) => setTimeout(resolve, 1));
  }
  alarm(): void {
    this.numRings += 1;
  }
}

async function sleepsFor(guards: readonly Guard[], isWhole: boolean): Promise<number | undefined> {
  const bell = new NotedBell();
  const waiters = new Waiters(bell, 100);
  let isDone = false;
  const waits = guards.map((each) => waiters.wait(0, () => isDone, each, isWhole));
  await new Promise((resolve) => setTimeout(resolve, 5));
  isDone = true;
  await Promise.all(waits);
  waiters.close(new Error("closed"));
  return bell.slept[0];
}

test("whole messages of one operation are waited for together", async () => {
  const one = guard();
  expect(await sleepsFor([one, one, one], true)).toBe(3);
  expect(await sleepsFor([one, one, one], false)).toBe(1);
});

test("of two operations either may come first, so that any ring ends the sleep", async () => {
  expect(await sleepsFor([guard(), guard()], true)).toBe(1);
});
