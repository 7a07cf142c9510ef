/** The file of `--profile`: one Chrome trace for all models of the process. */
import { accessSync, constants, statSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { messageOf, UsageError } from "../../common/errors.ts";
import { processClockOffsetMs, type TraceProcess, type TraceSink } from "../../common/trace.ts";
import { chromeTrace } from "./chromeTrace.ts";

export class TraceFile implements TraceSink {
  readonly path: string;
  readonly #startMs = processClockOffsetMs(); // performance.now() is 0 at the process's start
  #processes: TraceProcess[] = [];
  #written: Promise<void> = Promise.resolve();

  /** Throws a UsageError where no file can be written; on the main thread. */
  constructor(path: string) {
    this.path = path;
    checkWritable(path);
  }

  /** A model was shut down: writes all that have been so far, whole or not at all. */
  add(processes: readonly TraceProcess[]): Promise<void> {
    const numModels = this.#processes.filter(({ name }) => name.startsWith("engine")).length;
    const suffix = numModels === 0 ? "" : ` of model ${numModels + 1}`; // a replica, or a restarted one
    const named = processes.map((each) => ({ ...each, name: `${each.name}${suffix}` }));
    this.#processes = [...this.#processes, ...named];
    this.#written = this.#written.then(() => this.#write());
    return this.#written;
  }

  async #write(): Promise<void> {
    const partial = `${this.path}.partial`;
    await writeFile(partial, chromeTrace(this.#processes, this.#startMs));
    await rename(partial, this.path);
  }
}

function checkWritable(path: string): void {
  const what = `--profile ${path}`;
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new UsageError({ what, expected: "a file", got: "a folder" });
  }
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    const expected = "a file in a folder that can be written to";
    throw new UsageError({ what, expected, got: messageOf(error) });
  }
}
