/**
 * What surrounds every operation of a group on one rank: its number, its announcement to the other
 * ranks, its guard, its entry in the flight recorder, and the abort of all ranks when it fails.
 */
import { CollectiveAbortedError, CollectiveError, messageOf } from "../common/errors.ts";
import type { DebugLog } from "./debugLog.ts";
import { Operation } from "./operation.ts";
import type { ProcessGroup } from "./processGroup.ts";
import { packSignature, type Signature } from "./signature.ts";
import type { FlightEntry, FlightRecorder } from "./watchdog/flightRecorder.ts";
import { OperationGuard } from "./watchdog/operationGuard.ts";

/** What an operation announces; ranks must agree on all of it. */
export interface OperationSpec extends Partial<Signature> {
  readonly name: Signature["name"];
  /** Size that all ranks must give; left out where they may differ. */
  readonly bytes?: number | undefined;
  /** This rank's bytes for the statistics, where `bytes` is left out. */
  readonly ownBytes?: number | undefined;
  /** Who sends to whom, in a point-to-point operation. */
  readonly pair?: { readonly from: number; readonly to: number };
  /** How many parts the caller gave, where it must be one a rank. */
  readonly numParts?: number;
}

export interface RunnerOptions {
  readonly timeoutMs: number;
  readonly recorder: FlightRecorder;
  readonly checksums: boolean;
  readonly debug: DebugLog;
}

const ANY_BYTES = -1;
const MAX_SEQUENCE = 2 ** 30;
const TAG_SEQUENCE_MASK = 2 ** 23 - 1; // ranks are never that many operations apart
const PAIR_TAG = 2 ** 23;

export class OperationRunner {
  readonly #group: ProcessGroup;
  readonly #worldRank: number;
  readonly #options: RunnerOptions;
  readonly #sequences = new Map<string, number>(); // of the group, and of each ordered pair

  constructor(group: ProcessGroup, options: RunnerOptions) {
    this.#group = group;
    this.#worldRank = group.ranks[group.rankInGroup] ?? 0;
    this.#options = options;
  }

  async run<T>(spec: OperationSpec, body: (operation: Operation) => Promise<T>): Promise<T> {
    const { transport } = this.#group;
    const { recorder, checksums, debug } = this.#options;
    const { algorithm = "oneShot", dtype = "u8", root } = spec;
    const signature = packSignature({ name: spec.name, algorithm, dtype, root });
    const sequence = this.#nextSequence(spec.pair);
    const entry = recorder.begin({
      group: this.#group.name,
      name: spec.name,
      algorithm,
      sequence,
      bytes: spec.bytes ?? spec.ownBytes ?? 0,
    });
    const guard = this.#guard(spec, signature, sequence);
    const pairBit = spec.pair === undefined ? 0 : PAIR_TAG;
    const message = { tag: (sequence & TAG_SEQUENCE_MASK) | pairBit, signature };
    const subsystem = spec.pair === undefined ? "COLL" : "P2P";
    debug.say("TRACE", subsystem, () => guard.describe());
    try {
      this.#announce(spec, signature, sequence);
      this.#checkMembers(guard, spec);
      const operation = new Operation(transport, message, guard, checksums);
      const result = await body(operation);
      if (spec.pair === undefined) {
        transport.control.complete(this.#worldRank, this.#group.namespace, sequence);
      }
      recorder.end(entry);
      return result;
    } catch (error) {
      debug.say("WARN", subsystem, () => messageOf(error));
      this.#fail(entry, error);
      throw error;
    }
  }

  #nextSequence(pair: OperationSpec["pair"]): number {
    const key = pair === undefined ? "group" : `${pair.from}>${pair.to}`;
    const sequence = ((this.#sequences.get(key) ?? 0) % MAX_SEQUENCE) + 1;
    this.#sequences.set(key, sequence);
    return sequence;
  }

  #announce(spec: OperationSpec, signature: number, sequence: number): void {
    const { control } = this.#group.transport;
    if (spec.pair !== undefined) {
      control.beat(this.#worldRank);
      return;
    }
    const bytes = spec.bytes ?? ANY_BYTES;
    control.begin(this.#worldRank, this.#group.namespace, sequence, { signature, bytes });
  }

  #guard(spec: OperationSpec, signature: number, sequence: number): OperationGuard {
    const { name, namespace, ranks, transport, rankInGroup } = this.#group;
    const { pair } = spec;
    const peer = pair === undefined ? undefined : pair.from === rankInGroup ? pair.to : pair.from;
    return new OperationGuard(
      transport.control,
      {
        groupName: name,
        namespace,
        sequence,
        signature,
        bytes: spec.bytes ?? ANY_BYTES,
        worldRanks: ranks,
        worldRank: this.#worldRank,
        peer: peer === undefined ? undefined : (ranks[peer] ?? peer),
      },
      this.#options.timeoutMs,
    );
  }

  /** Checked inside the operation, so that a wrong rank number fails the others at once too. */
  #checkMembers(guard: OperationGuard, { root, pair, numParts }: OperationSpec): void {
    const { length } = this.#group.ranks;
    for (const rank of [root, pair?.from, pair?.to]) {
      if (rank === undefined || (Number.isInteger(rank) && rank >= 0 && rank < length)) continue;
      throw new CollectiveError(
        `${guard.describe()}: expected a rank below ${length}, got ${rank}`,
      );
    }
    if (pair !== undefined && pair.from === pair.to) {
      throw new CollectiveError(`${guard.describe()}: expected another rank, got this one`);
    }
    if (numParts !== undefined && numParts !== length) {
      throw new CollectiveError(
        `${guard.describe()}: expected ${length} parts, one a rank, got ${numParts}`,
      );
    }
  }

  #fail(entry: FlightEntry, error: unknown): void {
    const reason = messageOf(error);
    if (!(error instanceof CollectiveAbortedError)) {
      this.#group.transport.abort({ rank: this.#worldRank, reason });
    }
    this.#options.recorder.end(entry, reason);
  }
}
