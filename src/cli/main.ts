/** The command line: `main(argv)` runs one command and returns the process's exit code. */
import { inspect } from "node:util";
import { messageOf, TandemError } from "../common/errors.ts";
import { parseLogLevel } from "../common/logger.ts";
import { CommandContext, type Streams } from "./context.ts";
import { createProgram } from "./program.ts";
import { StopRequest } from "./stopRequest.ts";
import { isDone, translateError } from "./usageErrors.ts";

/** `argv` without node and script. Tests bring their own streams. */
export async function main(argv: readonly string[], streams: Streams = process): Promise<number> {
  const stop = new StopRequest(streams);
  const context = new CommandContext(argv, streams, stop);
  const program = createProgram(context);
  try {
    parseLogLevel(process.env["TANDEM_LOG"]);
    await program.parseAsync([...argv], { from: "user" });
    if (stop.failure !== undefined) throw stop.failure;
    return stop.exitCode ?? context.exitCode;
  } catch (error) {
    if (isDone(error)) return 0;
    // What fails because the user stopped it is no news.
    if (stop.exitCode !== undefined && stop.failure === undefined) return stop.exitCode;
    return report(translateError(stop.failure ?? error, program, argv), context);
  } finally {
    stop.dispose();
  }
}

/** One line for what is wrong; a stack only for whoever looks for a bug. */
function report(error: unknown, context: CommandContext): number {
  context.say(`error: ${messageOf(error).replaceAll(/\s*\n\s*/g, " ")}`);
  const isExpected = error instanceof TandemError;
  if (!isExpected) context.say("This is a bug in Tandem; please report it with these lines:");
  if (!isExpected || process.env["TANDEM_LOG"] === "debug") context.say(inspect(error));
  return isExpected ? error.exitCode : 1;
}
