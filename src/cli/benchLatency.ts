/** `bench latency`: one batch from its arrival to its last token. */
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

export function addBenchLatency(bench: Command, context: CommandContext): void {
  const command = bench
    .command("latency")
    .summary("percentiles of one batch's latency")
    .description(
      "Measures one batch from arrival to last token: percentiles of latency, TTFT, TPOT.",
    );
  addWorkload(command, [promptLenFlag(32), outputLenFlag(32), batchSizeFlag()]);
  addRunFlags(command, 10);
  command.action(async (flags: BatchFlags) => {
    await printBench(context, flags, async (args, events) => {
      const { benchLatency } = await import("../runtime/bench/latency.ts");
      return await benchLatency(args, batchWorkloads(flags), events);
    });
  });
}
