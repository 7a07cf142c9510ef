/** Several completions of one request, read at once: their outputs in the order in which they come. */
import type { RequestOutput } from "../../runtime/request.ts";

export interface ChoiceOutput {
  readonly choiceIndex: number;
  readonly output: RequestOutput;
}

/**
 * Reads every source as fast as it gives, so that a slow client holds up no other choice and no clock.
 * Ends once all have ended; fails with the first failure. The caller stops the sources by their signal.
 */
export async function* mergeChoices(
  sources: readonly AsyncIterable<RequestOutput>[],
): AsyncGenerator<ChoiceOutput, void, undefined> {
  const queue: ChoiceOutput[] = [];
  let [numOpen, wake]: [number, () => void] = [sources.length, () => undefined];
  let failure: { readonly cause: unknown } | undefined;
  const pump = async (source: AsyncIterable<RequestOutput>, choiceIndex: number): Promise<void> => {
    try {
      for await (const output of source) {
        queue.push({ choiceIndex, output });
        wake();
      }
    } catch (cause) {
      failure ??= { cause };
    }
    numOpen -= 1;
    wake();
  };
  for (const [index, source] of sources.entries()) void pump(source, index);
  for (;;) {
    const next = queue.shift();
    if (next !== undefined) yield next;
    else if (failure !== undefined) throw failure.cause;
    else if (numOpen === 0) return;
    else await new Promise<void>((resolve) => (wake = resolve));
  }
}
