/**
 * Keeps plans that run at once in the order of their steps. A newer plan may read KV blocks that an older
 * one fills (a prompt's next chunk, a shared prefix). Every list has the same host operations, so the same
 * layers lie between them: if no plan submits a segment before the older one has submitted its segment of
 * that number, the GPU, which runs submits in order, has written each layer's blocks before they are read.
 * All ranks keep the same order, whatever their timing.
 */

export class PlanOrder {
  #newest: PlanProgress | undefined;

  /** Announces the next plan. */
  begin(): PlanProgress {
    this.#newest = new PlanProgress(this.#newest);
    return this.#newest;
  }
}

/** A newer plan that may not submit yet. */
interface Waiting {
  readonly index: number;
  readonly wake: () => void;
  readonly refuse: (error: Error) => void;
}

/** How far one plan's submits have come; `beforeSubmit` and `submitted` are a ReplayWatch's. */
export class PlanProgress {
  #older: PlanProgress | undefined;
  #numSubmitted = 0;
  #failure: Error | undefined;
  #waiting: Waiting[] = [];

  constructor(older: PlanProgress | undefined) {
    this.#older = older;
  }

  readonly beforeSubmit = (index: number): Promise<void> | undefined => {
    return this.#older?.reached(index);
  };

  readonly submitted = (index: number): void => {
    this.#advance(index + 1);
  };

  /** Its replay is over: newer plans wait for it no more. */
  end(): void {
    this.#older = undefined;
    this.#advance(Infinity);
  }

  /**
   * Its replay failed, and so do newer plans before their next submit: they would compute on what is missing,
   * or ask for a map of a device that is gone, which never settles.
   */
  fail(error: Error): void {
    this.#older = undefined;
    this.#failure = error;
    for (const { refuse } of this.#waiting.splice(0)) refuse(error);
  }

  /** Resolves once segment `index` is submitted; undefined where it is. */
  reached(index: number): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#numSubmitted > index) return undefined;
    return new Promise((wake, refuse) => this.#waiting.push({ index, wake, refuse }));
  }

  #advance(numSubmitted: number): void {
    this.#numSubmitted = numSubmitted;
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ index }) => index >= numSubmitted);
    for (const { index, wake } of waiting) if (index < numSubmitted) wake();
  }
}
