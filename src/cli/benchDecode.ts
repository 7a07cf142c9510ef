/** `bench decode`: tokens a second after the first. */
import type { Command } from "commander";
import {
  addRunFlags,
  addWorkload,
  batchSizeFlag,
  type BatchFlags,
  batchWorkloads,
  outputLenFlag,
  printBench,
  promptLenFlag,
} from "./benchFlags.ts";
import type { CommandContext } from "./context.ts";

export function addBenchDecode(bench: Command, context: CommandContext): void {
  const command = bench
    .command("decode")
    .summary("tokens a second after the first")
    .description("Measures decode: tok/s beside its bound, launches and collectives a step.");
  addWorkload(command, [promptLenFlag(32), outputLenFlag(64, 2), batchSizeFlag()]);
  addRunFlags(command, 3);
  command.action(async (flags: BatchFlags) => {
    await printBench(context, flags, async (args, events) => {
      const { benchDecode } = await import("../runtime/bench/decode.ts");
      return await benchDecode(args, batchWorkloads(flags), events);
    });
  });
}
