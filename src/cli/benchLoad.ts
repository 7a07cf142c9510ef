/** `bench load`: start-up by stage. */
import type { Command } from "commander";
import { addOutputFlags, addWorkload, type OutputFlags, printBench } from "./benchFlags.ts";
import type { CommandContext } from "./context.ts";
import { addModelFlags, flag, type ModelFlags } from "./flags.ts";
import { wholeNumber } from "./values.ts";

interface BenchLoadFlags extends ModelFlags, OutputFlags {
  readonly promptLen: number;
  readonly repeats: number;
}

export function addBenchLoad(bench: Command, context: CommandContext): void {
  const command = bench
    .command("load")
    .summary("start-up by stage, to the first token")
    .description(
      "Loads the model again and again: time by stage, weights in GB/s beside reading alone.",
    );
  const count = wholeNumber({ min: 1 });
  addWorkload(command, [
    flag("--input-len, --prompt-len <tokens>", "tokens of the first prompt", count).default(32),
    flag("--repeats <n>", "loads, a row each", count).default(3),
  ]);
  addModelFlags(command);
  addOutputFlags(command);
  command.action(async (flags: BenchLoadFlags) => {
    await printBench(context, flags, async (args, events) => {
      const { benchLoad } = await import("../runtime/bench/load.ts");
      const { promptLen: promptLength, repeats } = flags;
      return await benchLoad(args, { promptLength, repeats }, events);
    });
  });
}
