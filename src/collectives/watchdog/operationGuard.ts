/**
 * What keeps one operation from hanging: its deadline, the abort of any rank, and the check that
 * other ranks announced the same operation under the same sequence number. Each ends it with an
 * error that says who, what and how far everybody came.
 */
import {
  CollectiveAbortedError,
  CollectiveError,
  CollectiveTimeoutError,
} from "../../common/errors.ts";
import { describeSignature } from "../signature.ts";
import type { Guard } from "../transport/transport.ts";
import type { AbortCause, ControlBlock } from "./controlBlock.ts";

/** An operation in flight, as messages name it. */
export interface GuardedOperation {
  readonly groupName: string;
  readonly namespace: number;
  readonly sequence: number;
  readonly signature: number;
  /** -1 where ranks may differ. */
  readonly bytes: number;
  /** Members by world rank. */
  readonly worldRanks: readonly number[];
  /** This rank's world rank. */
  readonly worldRank: number;
  /** Point-to-point operations count per pair and are not announced. */
  readonly peer?: number | undefined;
}

export class OperationGuard implements Guard {
  readonly #control: ControlBlock;
  readonly #operation: GuardedOperation;
  readonly #timeoutMs: number;
  readonly #deadline: number;

  constructor(control: ControlBlock, operation: GuardedOperation, timeoutMs: number) {
    this.#control = control;
    this.#operation = operation;
    this.#timeoutMs = timeoutMs;
    this.#deadline = performance.now() + timeoutMs;
  }

  get maxMessageBytes(): number | undefined {
    const { bytes } = this.#operation;
    return bytes < 0 ? undefined : bytes;
  }

  checkAbort(): void {
    if (!this.#control.aborted) return;
    const cause = this.#control.abortCause;
    if (cause === undefined) return;
    throw abortedError(this.describe(), cause);
  }

  inspect(waitingFor: number | undefined): void {
    this.#checkAgreement();
    this.#checkLeft(waitingFor);
    if (performance.now() >= this.#deadline) throw this.#timeoutError(waitingFor);
  }

  /** A message arrived that another operation sent. */
  checkSignature(from: number, signature: number): void {
    if (signature === this.#operation.signature) return;
    const { namespace, sequence, peer } = this.#operation;
    const announced =
      peer === undefined ? this.#control.announced(from, namespace, sequence) : undefined;
    throw this.#disagreement(from, describeSignature(signature, announced?.bytes));
  }

  /** A message arrived whose size this rank did not expect. */
  checkBytes(from: number, expected: number, got: number): void {
    if (expected === got) return;
    this.#checkAgreement(); // says the size of the whole operation where it differs
    throw new CollectiveError(
      `${this.describe()}: expected ${expected} bytes from rank ${from}, got ${got}; ` +
        "every rank must give the same size",
    );
  }

  /** The bytes of a message are not those that were sent. */
  checkChecksum(from: number, expected: number, got: number): void {
    if (expected === got) return;
    throw new CollectiveError(
      `${this.describe()}: a message from rank ${from} was damaged on its way: ` +
        `expected checksum ${expected.toString(16)}, got ${got.toString(16)}`,
    );
  }

  /** `allReduce (oneShot, f32, 16384 bytes) #12 of group tp on rank 0` */
  describe(): string {
    const { groupName, sequence, signature, bytes, worldRank } = this.#operation;
    const what = describeSignature(signature, bytes);
    return `${what} #${sequence} of group ${groupName} on rank ${worldRank}`;
  }

  #checkAgreement(): void {
    const { namespace, sequence, signature, bytes, worldRanks, peer } = this.#operation;
    if (peer !== undefined) return;
    for (const rank of worldRanks) {
      const other = this.#control.announced(rank, namespace, sequence);
      if (other === undefined) continue;
      if (other.signature === signature && other.bytes === (bytes | 0)) continue;
      throw this.#disagreement(rank, describeSignature(other.signature, other.bytes));
    }
  }

  #disagreement(rank: number, theirs: string): CollectiveError {
    return new CollectiveError(
      `${this.describe()}: rank ${rank} runs ${theirs} under the same number; ` +
        "every rank must call the same collectives in the same order",
    );
  }

  #checkLeft(rank: number | undefined): void {
    if (rank === undefined) return;
    const { namespace } = this.#operation;
    if (this.#control.progress(rank, namespace).state !== "left") return;
    throw new CollectiveError(`${this.describe()}: rank ${rank} has left; ${this.#progress()}`);
  }

  #timeoutError(waitingFor: number | undefined): CollectiveTimeoutError {
    const { namespace, sequence, worldRanks, peer } = this.#operation;
    const missing =
      peer === undefined
        ? worldRanks.filter((rank) => this.#control.progress(rank, namespace).started < sequence)
        : [peer];
    const culprit =
      missing.length === 0
        ? `${waitingFor === undefined ? "a rank" : `rank ${waitingFor}`} began it but did not finish`
        : `${missing.map((rank) => `rank ${rank}`).join(", ")} did not arrive`;
    return new CollectiveTimeoutError(
      `${this.describe()}: ${culprit} within ${this.#timeoutMs} ms; ${this.#progress()}`,
    );
  }

  /** `last completed: rank 0 #11, rank 1 #9 (quiet for 30.1 s)` */
  #progress(): string {
    const ranks = this.#operation.worldRanks.map((rank) => {
      const { state, completed, quietMs } = this.#control.progress(rank, this.#operation.namespace);
      const life = state === "running" ? `quiet for ${(quietMs / 1000).toFixed(1)} s` : state;
      return `rank ${rank} #${completed} (${life})`;
    });
    return `last completed: ${ranks.join(", ")}`;
  }
}

/** The error of those who wait when another rank, or the process that watches them, has given up. */
export function abortedError(what: string, cause: AbortCause): CollectiveAbortedError {
  const by = cause.rank === undefined ? "" : ` by rank ${cause.rank}`;
  const error = new CollectiveAbortedError(`${what}: aborted${by}: ${cause.reason}`);
  error.cause = new CollectiveError(cause.reason);
  return error;
}

/** For bytes outside any operation: a deadline and the abort flag, nothing else. */
export function deadlineGuard(control: ControlBlock, timeoutMs: number): Guard {
  const deadline = performance.now() + timeoutMs;
  return {
    checkAbort: () => {
      const cause = control.abortCause;
      if (cause !== undefined) throw abortedError("transfer", cause);
    },
    inspect: (waitingFor) => {
      if (performance.now() < deadline) return;
      throw new CollectiveTimeoutError(
        `transfer: rank ${waitingFor ?? "?"} did not answer within ${timeoutMs} ms`,
      );
    },
  };
}
