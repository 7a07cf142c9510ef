/** What a command has of the process around it. */
import { styleText } from "node:util";
import type { StopRequest } from "./stopRequest.ts";

/** stdout or stderr, or what a test puts in its place. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean };

export interface Streams {
  readonly stdout: Output;
  readonly stderr: Output;
}

/** One run of the command line. */
export class CommandContext {
  /** The command line, without node and script. */
  readonly argv: readonly string[];
  readonly stdout: Output;
  readonly stderr: Output;
  /** Ctrl-C, and a reader of stdout that left. */
  readonly stop: StopRequest;
  /** The process's, unless something fails or stops it. */
  exitCode = 0;

  constructor(argv: readonly string[], streams: Streams, stop: StopRequest) {
    this.argv = argv;
    this.stdout = streams.stdout;
    this.stderr = streams.stderr;
    this.stop = stop;
  }

  /** A line of the answer, on stdout. */
  print(text: string): void {
    this.stdout.write(`${text}\n`);
  }

  /** A line about the run, on stderr. */
  say(text: string): void {
    this.stderr.write(`${text}\n`);
  }
}

/** Grey on a terminal, plain elsewhere (and under NO_COLOR). */
export function dim(text: string, output: Output): string {
  return output.isTTY === true ? styleText("dim", text, { stream: output }) : text;
}
