/** `bench`: measurements; a table for people, then one line of JSON as the last line. */
import { type Command } from "commander";
import { UsageError } from "../common/errors.ts";
import type { CommandContext } from "./context.ts";
import { addJsonFlag, addModelFlags, flag, type JsonFlag, type ModelFlags } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { engineArgs } from "./modelArgs.ts";
import { wholeNumber } from "./values.ts";

interface BenchDecodeFlags extends ModelFlags, JsonFlag {
  readonly promptLen: number;
  readonly outputLen: number;
  readonly repeats: number;
  readonly batchSize: number;
}

/** Adds the command and its benchmarks to the program. */
export function addBench(program: Command, context: CommandContext): void {
  const bench = program
    .command("bench")
    .summary("measure: decode")
    .description("Measures one part of the runtime.")
    .argument("[benchmark]");
  addBenchDecode(bench, context);
  bench.action((name: string | undefined) => {
    throw new UsageError({
      what: "bench",
      expected: `one of ${bench.commands.map((command) => command.name()).join(", ")}`,
      got: name === undefined ? "nothing" : JSON.stringify(name),
    });
  });
}

function addBenchDecode(bench: Command, context: CommandContext): void {
  const command = bench
    .command("decode")
    .summary("tokens a second after the first")
    .description("Measures decode: tok/s beside GB/s, launches and collectives a token.");
  const count = wholeNumber({ min: 1 });
  for (const option of [
    flag("--prompt-len <tokens>", "tokens of each prompt", count).default(32),
    flag("--output-len <tokens>", "tokens to generate", count).default(64),
    flag("--batch-size <n>", "sequences at once", count).default(1),
    flag("--repeats <n>", "runs, of which the median counts", count).default(3),
  ]) {
    command.addOption(option.helpGroup("Workload:"));
  }
  addModelFlags(command);
  addJsonFlag(command, "only the line of JSON on stdout");
  command.action(async (flags: BenchDecodeFlags) => {
    const { promptLen, outputLen, repeats, batchSize } = flags;
    await ensureAdapter();
    const { benchDecode } = await import("../runtime/benchDecode.ts");
    const display = showLoading(context.stderr, flags.json === true);
    const workload = { promptLength: promptLen, numTokens: outputLen, repeats, batchSize };
    const report = await benchDecode(engineArgs(flags), workload, display.events).finally(
      display.stop,
    );
    if (flags.json !== true) context.print(formatBench(report));
    context.print(JSON.stringify(report));
  });
}
