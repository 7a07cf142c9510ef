/**
 * Waits for mapped buffers without Dawn's event-loop polling.
 *
 * Dawn on Node looks at its events in a function that it hands to `setImmediate`, again and again while
 * anything is pending. That keeps a core busy, which a software adapter needs to compute, and pays for a
 * turn of the event loop at every look. The pump takes the function (by standing in for `setImmediate`
 * while `mapAsync` runs) and calls it itself: at once, then after naps. Where Dawn had already queued it,
 * or hands it to nobody, as in a page, maps are awaited as they are.
 */

/** How the ranks of this thread wait for their devices. */
export interface MapWait {
  /** The thread has nothing else to do meanwhile: it may stop the event loop for a map. */
  readonly blocks: boolean;
  /** For so long it looks without a nap, in milliseconds; of a map that nothing waits for, from when it is near. */
  readonly spinMs: number;
  /** Asked-for length of a nap, in milliseconds; the system adds some 60 µs. 0: never naps. */
  readonly napMs: number;
}

/**
 * A map that nothing waits for is looked for once a millisecond until it is nearer than this to when the last ones
 * came, then every PAUSE_MS. A look leaves a promise and what Dawn wraps: some hundred of them a step of 7 ms were a
 * megabyte, and 7 % of the time went to collecting it.
 */
const NEAR_MS = 1.5;
const PAUSE_MS = 0.02;
/** Past this a blocked thread lets its other work run, and goes on from the event loop. */
const MAX_BLOCK_MS = 20;
/** A software adapter computes on the cores that waiting would take. */
const SOFTWARE_SPIN_MS = 0.02;
const HARDWARE_SPIN_MS = 2;
const NAP_MS = 0.001;
/** Longer naps, in milliseconds, for each thread a core beyond the first: all of them look in turns. */
const NAP_MS_OF_CROWD = 0.06;

/** `threadsPerCore`: threads that wait like this one, for each core of the machine. */
export function chooseMapWait(
  isSoftware: boolean,
  blocks: boolean,
  threadsPerCore: number,
): MapWait {
  if (isSoftware) {
    const napMs = Math.max(NAP_MS, NAP_MS_OF_CROWD * (threadsPerCore - 1));
    return { blocks, spinMs: SOFTWARE_SPIN_MS, napMs };
  }
  if (threadsPerCore >= 1) return { blocks, spinMs: 0, napMs: NAP_MS };
  return { blocks, spinMs: blocks ? HARDWARE_SPIN_MS : Infinity, napMs: NAP_MS };
}

type Immediate = (callback: () => void, ...rest: unknown[]) => unknown;

interface EventLoop {
  setImmediate?: Immediate;
  readonly setTimeout?: (callback: () => void, ms: number) => unknown;
  readonly performance?: { now(): number };
}

function isNative(callback: () => void): boolean {
  return (
    callback.length === 0 && Function.prototype.toString.call(callback).includes("[native code]")
  );
}

/** A look may change it, which the compiler cannot know. */
function isPending({ mapState }: GPUBuffer): boolean {
  return mapState === "pending";
}

export class MapPump {
  readonly #wait: MapWait;
  readonly #loop: EventLoop;
  readonly #napWord: Int32Array | undefined;
  /** Dawn's look at its events, when it is ours to call. */
  #look: (() => void) | undefined;
  /** Maps under way, and those of them that it looks for itself. */
  #numMaps = 0;
  #numWaiting = 0;
  #numLooks = 0;
  /** How long the last two maps took that nothing waited for; the next is expected after the shorter time. */
  #lastMs = 0;
  #lastButOneMs = 0;

  constructor(wait: MapWait, loop: EventLoop = globalThis) {
    this.#wait = wait;
    this.#loop = loop;
    const canNap = wait.napMs > 0 && typeof SharedArrayBuffer !== "undefined";
    this.#napWord = canNap ? new Int32Array(new SharedArrayBuffer(4)) : undefined;
  }

  /** How often it has looked in place of the event loop. */
  get numLooks(): number {
    return this.#numLooks;
  }

  /** Whether it waits for a map: the thread must look for it, or run its event loop. */
  get isWaiting(): boolean {
    return this.#numMaps > 0;
  }

  /**
   * Asks for the map at once and resolves when it is there, as `buffer.mapAsync(READ, 0, sizeBytes)`.
   * `mayBlock`: nothing of this rank should run before it, so the thread may stop for it.
   */
  async map(buffer: GPUBuffer, sizeBytes: number, mayBlock: boolean): Promise<void> {
    this.#numMaps += 1;
    try {
      await this.#map(buffer, sizeBytes, mayBlock);
    } finally {
      this.#numMaps -= 1;
    }
  }

  async #map(buffer: GPUBuffer, sizeBytes: number, mayBlock: boolean): Promise<void> {
    const mapped = this.#capturing(() => buffer.mapAsync(1, 0, sizeBytes)); // GPUMapMode.READ
    if (this.#look === undefined) {
      await mapped;
      return;
    }
    mapped.catch(() => undefined); // awaited below
    this.#numWaiting += 1;
    try {
      await Promise.resolve(); // the caller encodes what comes next before this thread stops
      if (mayBlock && this.#wait.blocks) this.#block(buffer);
      await this.#share(buffer, mayBlock);
    } finally {
      this.#numWaiting -= 1;
      if (this.#numWaiting === 0) this.#handBack();
    }
    await mapped;
  }

  /** Looks until the map is there; nothing else runs on the thread meanwhile. */
  #block(buffer: GPUBuffer): void {
    const begin = this.#now();
    while (isPending(buffer) && this.#look !== undefined) {
      this.#lookOnce();
      const elapsedMs = this.#now() - begin;
      if (!isPending(buffer) || elapsedMs > MAX_BLOCK_MS) return;
      if (elapsedMs > this.#wait.spinMs) this.#nap();
    }
  }

  /** Looks once a turn of the event loop; now and then only, where nothing waits for the map. */
  async #share(buffer: GPUBuffer, isAwaited: boolean): Promise<void> {
    const begin = this.#now();
    const isRelaxed = !isAwaited && this.#canSleep;
    const nearMs = Math.max(0, Math.min(this.#lastMs, this.#lastButOneMs) - NEAR_MS);
    const spinEndMs = this.#wait.spinMs + (isRelaxed ? nearMs : 0);
    let elapsedMs = 0;
    while (isPending(buffer) && this.#look !== undefined) {
      await new Promise<void>(isRelaxed && elapsedMs < nearMs ? this.#sleep : this.#turn);
      this.#lookOnce();
      elapsedMs = this.#now() - begin;
      if (!isPending(buffer)) break;
      if (elapsedMs > spinEndMs) this.#nap();
      else if (isRelaxed) this.#pauseUntil(begin + elapsedMs + PAUSE_MS);
    }
    if (isAwaited) return;
    this.#lastButOneMs = this.#lastMs;
    this.#lastMs = elapsedMs;
  }

  readonly #turn = (resolve: () => void): void => {
    this.#loop.setImmediate?.(resolve);
  };

  readonly #sleep = (resolve: () => void): void => {
    this.#loop.setTimeout?.(resolve, 1);
  };

  /** A thread that naps between looks needs no sleep. */
  get #canSleep(): boolean {
    return this.#wait.spinMs > NEAR_MS && this.#loop.setTimeout !== undefined;
  }

  #now(): number {
    return (this.#loop.performance ?? performance).now();
  }

  #pauseUntil(end: number): void {
    while (this.#now() < end);
  }

  #nap(): void {
    if (this.#napWord !== undefined) Atomics.wait(this.#napWord, 0, 0, this.#wait.napMs);
  }

  #lookOnce(): void {
    const look = this.#look;
    this.#look = undefined;
    this.#numLooks += 1;
    if (look !== undefined) this.#capturing(look);
  }

  /** Looks once, in place of an event loop that will not turn again. */
  lookNow(): void {
    this.#lookOnce();
  }

  /** Other operations may still be pending: from here Dawn looks after them as it always does. */
  #handBack(): void {
    const look = this.#look;
    this.#look = undefined;
    if (look !== undefined) this.#loop.setImmediate?.(look);
  }

  /** Runs `work`; the look that Dawn hands to `setImmediate` meanwhile is kept. */
  #capturing<T>(work: () => T): T {
    const original = this.#loop.setImmediate;
    if (original === undefined) return work();
    this.#original = original;
    this.#loop.setImmediate = this.#keep;
    try {
      return work();
    } finally {
      this.#loop.setImmediate = original;
    }
  }

  #original: Immediate | undefined;

  /** Stands in for `setImmediate`. */
  readonly #keep: Immediate = (callback, ...rest) => {
    if (!isNative(callback)) return this.#original?.(callback, ...rest); // of an event listener, say
    this.#look = callback;
    return undefined;
  };
}
