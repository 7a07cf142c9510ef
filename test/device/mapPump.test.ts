/** The pump against a stand-in for Dawn: who calls its look at events, how often, and who gets it back. */
import { afterEach, expect, test, vi } from "vitest";
import { chooseMapWait, MapPump, type MapWait } from "../../src/device/mapPump.ts";

const NO_NAP = { spinMs: Infinity, napMs: 0 };
const BLOCKING: MapWait = { blocks: true, ...NO_NAP };
const SHARING: MapWait = { blocks: false, ...NO_NAP };

interface Pending {
  looksLeft: number;
  readonly done: () => void;
  readonly isDue: () => boolean;
}

/** As Dawn on Node does: a look is queued while anything is pending, once at a time. */
class FakeDawn {
  readonly loop = { setImmediate: (callback: () => void): unknown => setImmediate(callback) };
  numLooks = 0;
  numQueued = 0;
  readonly #pending: Pending[] = [];
  #isQueued = false;

  constructor() {
    const original = this.loop.setImmediate;
    this.loop.setImmediate = (callback) => {
      this.numQueued += 1;
      return original(callback);
    };
  }

  /** A buffer whose map takes so many looks, and until `isDue`; it fails where `error` says so. */
  buffer(looks: number, error?: Error, isDue: () => boolean = () => true): GPUBuffer {
    const buffer = {
      mapState: "unmapped",
      mapAsync: (): Promise<void> => {
        buffer.mapState = "pending";
        return new Promise((resolve, reject) => {
          const done = (): void => {
            buffer.mapState = error === undefined ? "mapped" : "unmapped";
            if (error === undefined) resolve();
            else reject(error);
          };
          this.begin(looks, done, isDue);
        });
      },
    };
    return buffer as unknown as GPUBuffer;
  }

  begin(looksLeft: number, done: () => void, isDue: () => boolean = () => true): void {
    this.#pending.push({ looksLeft, done, isDue });
    this.#queue();
  }

  #queue(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    const look = (): void => {
      this.#isQueued = false;
      this.#look();
      if (this.#pending.length > 0) this.#queue();
    };
    this.loop.setImmediate(look.bind(null)); // says "[native code]", as Dawn's does
  }

  #look(): void {
    this.numLooks += 1;
    for (const each of [...this.#pending]) {
      each.looksLeft -= 1;
      if (each.looksLeft > 0 || !each.isDue()) continue;
      this.#pending.splice(this.#pending.indexOf(each), 1);
      each.done();
    }
  }
}

test("a blocking rank has its map in the turn in which it asked", async () => {
  const dawn = new FakeDawn();
  const pump = new MapPump(BLOCKING, dawn.loop);
  let turns = 0;
  setImmediate(() => (turns += 1));
  const buffer = dawn.buffer(50);
  const mapped = pump.map(buffer, 16, true);
  expect(buffer.mapState).toBe("pending"); // the caller may still encode what follows
  await mapped;
  expect([buffer.mapState, dawn.numLooks, turns]).toEqual(["mapped", 50, 0]);
  expect(dawn.numQueued).toBe(0);
});

test.each([
  ["a thread of several ranks", SHARING, true],
  ["a map that others need not wait for", BLOCKING, false],
] as const)("%s lets the event loop turn between looks", async (_, wait, mayBlock) => {
  const dawn = new FakeDawn();
  let turns = 0;
  const turn = (): void => {
    turns += 1;
    if (turns < 100) setImmediate(turn);
  };
  setImmediate(turn);
  await new MapPump(wait, dawn.loop).map(dawn.buffer(10), 16, mayBlock);
  expect(turns).toBeGreaterThan(5);
  turns = 100;
});

/** Dawn, and an event loop whose time is its own: it passes with each look at the clock, sleep and nap. */
class TimedDawn extends FakeDawn {
  nowMs = 0;
  numSleeps = 0;
  numNaps = 0;
  readonly pump: MapPump;

  constructor(wait: MapWait) {
    super();
    const now = (): number => (this.nowMs += 0.001);
    const sleep = (callback: () => void, ms: number): unknown => {
      this.numSleeps += 1;
      this.nowMs += ms;
      return setImmediate(callback);
    };
    this.pump = new MapPump(
      wait,
      Object.assign(this.loop, { setTimeout: sleep, performance: { now } }),
    );
    vi.spyOn(Atomics, "wait").mockImplementation(() => {
      this.numNaps += 1;
      this.nowMs += 0.06;
      return "timed-out";
    });
  }

  /** How often it slept, and napped, during a map that nothing waits for. */
  async mapped(ms: number): Promise<[sleeps: number, naps: number]> {
    const [sleeps, naps, end] = [this.numSleeps, this.numNaps, this.nowMs + ms];
    await this.pump.map(
      this.buffer(1, undefined, () => this.nowMs >= end),
      16,
      false,
    );
    return [this.numSleeps - sleeps, this.numNaps - naps];
  }
}

afterEach(() => {
  vi.restoreAllMocks();
});

test("a map is looked for now and then until it is nearly due, and often from then on", async () => {
  const dawn = new TimedDawn(SHARING);
  expect(await dawn.mapped(12)).toEqual([0, 0]); // nothing is known of it yet
  expect(await dawn.mapped(12)).toEqual([0, 0]);
  expect(await dawn.mapped(12)).toEqual([11, 0]);
  expect(await dawn.mapped(1)).toEqual([1, 0]); // sooner than expected: at most a sleep late
  expect(await dawn.mapped(12)).toEqual([0, 0]); // the shorter of the last two counts
  const looks = dawn.numLooks;
  await dawn.pump.map(dawn.buffer(10), 16, true); // one that the step waits for is watched
  expect(dawn.numLooks - looks).toBe(10);
});

test("a map that comes when expected costs no nap, however long it takes", async () => {
  const dawn = new TimedDawn({ blocks: true, spinMs: 2, napMs: 0.001 });
  const [, naps] = await dawn.mapped(8);
  expect(naps).toBeGreaterThan(50); // nothing is known of it yet
  await dawn.mapped(8);
  expect(await dawn.mapped(8)).toEqual([7, 0]);
  expect((await dawn.mapped(20))[1]).toBeGreaterThan(50); // late
});

test("two maps at once are both served by one look each turn", async () => {
  const dawn = new FakeDawn();
  const pump = new MapPump(SHARING, dawn.loop);
  await Promise.all([pump.map(dawn.buffer(3), 16, true), pump.map(dawn.buffer(7), 16, true)]);
  expect(dawn.numLooks).toBeLessThanOrEqual(8);
});

test.each([BLOCKING, SHARING])("what else is pending gets its looks back, %o", async (wait) => {
  const dawn = new FakeDawn();
  const pump = new MapPump(wait, dawn.loop);
  let isDone = false;
  const mapped = pump.map(dawn.buffer(2), 16, true);
  const other = new Promise<void>((resolve) => {
    dawn.begin(40, resolve);
  }).then(() => (isDone = true));
  await mapped;
  expect(isDone).toBe(false);
  await other; // nobody pumps any more: Dawn does
  expect(dawn.numLooks).toBe(40);
});

test("where Dawn has queued its look already, the map is awaited as it is", async () => {
  const dawn = new FakeDawn();
  dawn.begin(3, () => undefined);
  const before = dawn.numQueued;
  await new MapPump(BLOCKING, dawn.loop).map(dawn.buffer(5), 16, true);
  expect(before).toBe(1);
  expect([dawn.numLooks, dawn.numQueued]).toEqual([5, 5]);
});

test("in a page there is nothing to take over", async () => {
  const buffer = {
    mapState: "pending",
    mapAsync: () => new Promise<void>((resolve) => setTimeout(resolve, 1)),
  };
  await new MapPump(BLOCKING, {}).map(buffer as unknown as GPUBuffer, 16, true);
});

test("what a listener hands to setImmediate during a look runs as it should", async () => {
  const dawn = new FakeDawn();
  let hasRun = false;
  const mapped = new MapPump(BLOCKING, dawn.loop).map(dawn.buffer(3), 16, true);
  dawn.begin(2, () => {
    dawn.loop.setImmediate(() => (hasRun = true));
  });
  await mapped;
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(hasRun).toBe(true);
});

test.each([BLOCKING, SHARING])("a map that fails says why, %o", async (wait) => {
  const dawn = new FakeDawn();
  const pump = new MapPump(wait, dawn.loop);
  const buffer = dawn.buffer(3, new Error("device lost"));
  await expect(pump.map(buffer, 16, true)).rejects.toThrow("device lost");
  await pump.map(dawn.buffer(2), 16, true);
});

test("mapAsync that throws leaves setImmediate as it was", async () => {
  const dawn = new FakeDawn();
  const { setImmediate: before } = dawn.loop;
  const buffer = {
    mapAsync: () => {
      throw new Error("destroyed");
    },
  };
  const pump = new MapPump(BLOCKING, dawn.loop);
  await expect(pump.map(buffer as unknown as GPUBuffer, 16, true)).rejects.toThrow("destroyed");
  expect(dawn.loop.setImmediate).toBe(before);
});

test("software adapters get the cores back while they compute; a device with a core to spare is watched", () => {
  expect(chooseMapWait(true, true, 0.5).spinMs).toBeLessThan(0.1);
  expect(chooseMapWait(false, true, 0.5)).toMatchObject({ blocks: true, spinMs: 2 });
  expect(chooseMapWait(false, false, 0.5).spinMs).toBe(Infinity);
  expect(chooseMapWait(false, true, 1)).toMatchObject({ spinMs: 0 });
});

test("threads that share cores with a software adapter nap longer the more they are", () => {
  const naps = [0.5, 1, 2, 4].map((threads) => chooseMapWait(true, true, threads).napMs);
  expect(naps).toEqual([0.001, 0.001, 0.06, 0.18]);
});
