/** `bench prefill`: prompt tokens a second. */
import type { Command } from "commander";
import {
  addRunFlags,
  addWorkload,
  type BenchFlags,
  printBench,
  promptLenFlag,
} from "./benchFlags.ts";
import type { CommandContext } from "./context.ts";

interface BenchPrefillFlags extends BenchFlags {
  readonly promptLen: readonly number[];
}

export function addBenchPrefill(bench: Command, context: CommandContext): void {
  const command = bench
    .command("prefill")
    .summary("prompt tokens a second")
    .description("Measures prefill: a whole prompt in one step, beside its operations.");
  addWorkload(command, [promptLenFlag(512)]);
  addRunFlags(command, 3);
  command.action(async (flags: BenchPrefillFlags) => {
    await printBench(context, flags, async (args, events) => {
      const { benchPrefill } = await import("../runtime/bench/prefill.ts");
      const { promptLen: promptLengths, warmup: warmUp, repeats } = flags;
      return await benchPrefill(args, { promptLengths, warmUp, repeats }, events);
    });
  });
}
