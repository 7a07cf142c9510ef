/**
 * What every rank may know of every other without a message: how far it has come in each group, what
 * it was asked to do there, whether it is alive, and whether the whole has been aborted, by whom and
 * why. It lies on shared memory between threads and on plain memory in one; a transport between
 * machines keeps a mirror of it from control frames.
 */

/** Who gave up, a world rank or undefined for the process that watches the ranks, and why. */
export interface AbortCause {
  readonly rank: number | undefined;
  readonly reason: string;
}

/** One operation as a rank announced it. */
export interface AnnouncedOperation {
  readonly signature: number;
  readonly bytes: number;
}

export interface RankProgress {
  readonly state: "absent" | "running" | "left";
  /** Sequence number of the last operation begun, and of the last one completed; 0 for none. */
  readonly started: number;
  readonly completed: number;
  /** Time since the rank last began or completed any operation. */
  readonly quietMs: number;
}

/** Namespaces: the lower half for the kinds of parallelGrid.ts, the upper for subgroups. */
export const MAX_GROUPS = 64;

const MAX_REASON_BYTES = 2048;
const HISTORY = 8; // announced operations kept a group and rank: more than a rank can run ahead
const ENTRY_WORDS = 3; // sequence, signature, bytes
const GROUP_WORDS = 2 + HISTORY * ENTRY_WORDS; // started, completed, history
const RANK_WORDS = 2 + MAX_GROUPS * GROUP_WORDS; // state, heartbeat, groups
const HEADER_WORDS = 4; // abort state, abort rank + 1, reason bytes, requests for a dump
const STATES = ["absent", "running", "left"] as const;
const [ABORT_STATE, ABORT_RANK, REASON_BYTES, DUMP_REQUESTS] = [0, 1, 2, 3];
const [NOT_ABORTED, ABORTING, ABORTED] = [0, 1, 2];

export class ControlBlock {
  readonly worldSize: number;
  readonly #words: Int32Array;
  readonly #reason: Uint8Array;
  #numChanges = 0;

  /** `buffer`: zeroed at first, `ControlBlock.sizeBytes(worldSize)` from `byteOffset`. */
  constructor(buffer: ArrayBufferLike, byteOffset: number, worldSize: number) {
    this.worldSize = worldSize;
    this.#words = new Int32Array(buffer, byteOffset, HEADER_WORDS + worldSize * RANK_WORDS);
    this.#reason = new Uint8Array(buffer, byteOffset + this.#words.byteLength, MAX_REASON_BYTES);
  }

  static sizeBytes(worldSize: number): number {
    return 4 * (HEADER_WORDS + worldSize * RANK_WORDS) + MAX_REASON_BYTES;
  }

  /** How often this view has announced anything: tells a mirror that there is news. */
  get numChanges(): number {
    return this.#numChanges;
  }

  join(rank: number): void {
    this.#numChanges += 1;
    this.#store(rankBase(rank), STATES.indexOf("running"));
    this.beat(rank);
  }

  leave(rank: number): void {
    this.#numChanges += 1;
    this.#store(rankBase(rank), STATES.indexOf("left"));
  }

  /** A sign of life. The clock wraps after 24 days; only differences are used. */
  beat(rank: number): void {
    this.#store(rankBase(rank) + 1, Date.now() | 0);
  }

  /** Announces an operation before its first byte moves. */
  begin(rank: number, group: number, sequence: number, operation: AnnouncedOperation): void {
    this.#numChanges += 1;
    const base = groupBase(rank, group);
    const entry = base + 2 + (sequence % HISTORY) * ENTRY_WORDS;
    this.#store(entry, 0); // a reader that sees 0 in between takes the entry for missing
    this.#store(entry + 1, operation.signature);
    this.#store(entry + 2, operation.bytes | 0);
    this.#store(entry, sequence);
    this.#store(base, sequence);
    this.beat(rank);
  }

  complete(rank: number, group: number, sequence: number): void {
    this.#numChanges += 1;
    this.#store(groupBase(rank, group) + 1, sequence);
    this.beat(rank);
  }

  /** All that this block says of a rank, for a mirror of it on another machine. */
  exportRank(rank: number): Int32Array<ArrayBuffer> {
    const base = rankBase(rank);
    const groups = Array.from({ length: MAX_GROUPS }, (_, group) => group).filter(
      (group) => this.#load(groupBase(rank, group)) !== 0,
    );
    const words = groups.flatMap((group) => [
      group,
      ...Array.from({ length: GROUP_WORDS }, (_, i) => this.#load(groupBase(rank, group) + i)),
    ]);
    return Int32Array.of(this.#load(base), ...words);
  }

  /** Mirrors what another machine's block said of a rank; a sign of life too. */
  importRank(rank: number, words: Int32Array): void {
    for (let at = 1; at + GROUP_WORDS < words.length; at += 1 + GROUP_WORDS) {
      const group = words[at] ?? MAX_GROUPS;
      if (group < 0 || group >= MAX_GROUPS) continue; // not ours to trust
      const base = groupBase(rank, group);
      // entries before the counts, so that who sees a count finds its entry
      for (let i = GROUP_WORDS - 1; i >= 0; i--) this.#store(base + i, words[at + 1 + i] ?? 0);
    }
    this.#store(rankBase(rank), words[0] ?? 0);
    this.beat(rank);
  }

  progress(rank: number, group: number): RankProgress {
    const [base, common] = [groupBase(rank, group), rankBase(rank)];
    return {
      state: STATES[this.#load(common)] ?? "absent",
      started: this.#load(base),
      completed: this.#load(base + 1),
      quietMs: (Date.now() - this.#load(common + 1)) | 0,
    };
  }

  /** What a rank announced as its operation of this sequence number, unless too long ago. */
  announced(rank: number, group: number, sequence: number): AnnouncedOperation | undefined {
    const entry = groupBase(rank, group) + 2 + (sequence % HISTORY) * ENTRY_WORDS;
    if (this.#load(entry) !== sequence) return undefined;
    const operation = { signature: this.#load(entry + 1), bytes: this.#load(entry + 2) };
    return this.#load(entry) === sequence ? operation : undefined;
  }

  /** First writer wins; false when it was aborted before. */
  abort({ rank, reason }: AbortCause): boolean {
    if (Atomics.compareExchange(this.#words, ABORT_STATE, NOT_ABORTED, ABORTING) !== NOT_ABORTED) {
      return false;
    }
    const encoded = new TextEncoder().encode(reason).subarray(0, MAX_REASON_BYTES);
    this.#reason.set(encoded);
    this.#store(REASON_BYTES, encoded.length);
    this.#store(ABORT_RANK, rank === undefined ? 0 : rank + 1);
    this.#store(ABORT_STATE, ABORTED);
    return true;
  }

  /** Asks every rank that sees this block for its flight record. */
  requestDump(): void {
    Atomics.add(this.#words, DUMP_REQUESTS, 1);
  }

  /** How often a dump was asked for. */
  get numDumpRequests(): number {
    return this.#load(DUMP_REQUESTS);
  }

  get aborted(): boolean {
    return this.#load(ABORT_STATE) === ABORTED;
  }

  get abortCause(): AbortCause | undefined {
    if (!this.aborted) return undefined;
    // TextDecoder refuses shared memory in a page, so the bytes are copied to plain memory.
    const reason = new Uint8Array(this.#reason.subarray(0, this.#load(REASON_BYTES)));
    const rank = this.#load(ABORT_RANK) - 1;
    return { rank: rank < 0 ? undefined : rank, reason: new TextDecoder().decode(reason) };
  }

  #load(index: number): number {
    return Atomics.load(this.#words, index);
  }

  #store(index: number, value: number): void {
    Atomics.store(this.#words, index, value);
  }
}

function rankBase(rank: number): number {
  return HEADER_WORDS + rank * RANK_WORDS;
}

function groupBase(rank: number, group: number): number {
  return rankBase(rank) + 2 + group * GROUP_WORDS;
}
