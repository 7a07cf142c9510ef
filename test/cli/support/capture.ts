/** Streams that keep what is written, and main() between them. */
import { Writable } from "node:stream";
import { CommandContext, type Streams } from "../../../src/cli/context.ts";
import { main } from "../../../src/cli/main.ts";
import { StopRequest } from "../../../src/cli/stopRequest.ts";

/** Keeps all text that is written to it. */
export class CapturedOutput extends Writable {
  text = "";
  readonly isTTY: boolean;

  constructor(isTTY = false) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export interface CapturedStreams extends Streams {
  readonly stdout: CapturedOutput;
  readonly stderr: CapturedOutput;
}

export function captureStreams(isTTY = false): CapturedStreams {
  return { stdout: new CapturedOutput(isTTY), stderr: new CapturedOutput(isTTY) };
}

/** Runs a command line in this process; for those that end before a device is opened. */
export async function runMain(
  argv: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const streams = captureStreams();
  const code = await main(argv, streams);
  return { code, stdout: streams.stdout.text, stderr: streams.stderr.text };
}

/** A context for calling a command's parts; call `stop.dispose()` when done. */
export function captureContext(isTTY = false): {
  readonly context: CommandContext;
  readonly streams: CapturedStreams;
} {
  const streams = captureStreams(isTTY);
  return { context: new CommandContext([], streams, new StopRequest(streams)), streams };
}
