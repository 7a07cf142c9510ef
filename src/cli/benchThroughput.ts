/** `bench throughput`: many requests at once, offline. */
import type { Command } from "commander";
import { UsageError } from "../common/errors.ts";
import {
  addRunFlags,
  addWorkload,
  type BenchFlags,
  outputLenFlag,
  printBench,
} from "./benchFlags.ts";
import type { CommandContext } from "./context.ts";
import { flag } from "./flags.ts";
import { decimalNumber, type ValueParser, wholeNumber } from "./values.ts";

interface BenchThroughputFlags extends BenchFlags {
  readonly promptLen: number;
  readonly outputLen: number;
  readonly numPrompts: number;
  readonly rangeRatio: number;
  readonly seed: number;
}

/** 0 to below 1. */
const ratio: ValueParser<number> = (text, name) => {
  const value = decimalNumber(text, name);
  if (value >= 0 && value < 1) return value;
  throw new UsageError({ what: name, expected: "a number from 0 to below 1", got: value });
};

export function addBenchThroughput(bench: Command, context: CommandContext): void {
  const command = bench
    .command("throughput")
    .summary("tokens a second of many requests at once")
    .description(
      "Measures requests that all arrive at once, batched by the scheduler (--max-num-seqs).",
    );
  const count = wholeNumber({ min: 1 });
  addWorkload(command, [
    flag("--num-prompts <n>", "requests", count).default(32),
    flag("--input-len, --prompt-len <tokens>", "tokens of each prompt", count).default(32),
    outputLenFlag(32),
    flag(
      "--range-ratio <x>",
      "lengths vary by this part of themselves, up and down",
      ratio,
    ).default(0),
    flag("--seed <n>", "of the lengths", wholeNumber({ min: 0 })).default(0),
  ]);
  addRunFlags(command, 1);
  command.action(async (flags: BenchThroughputFlags) => {
    await printBench(context, flags, async (args, events) => {
      const { benchThroughput } = await import("../runtime/bench/throughput.ts");
      const { promptLen: promptLength, outputLen: outputLength, warmup: warmUp } = flags;
      const { numPrompts, rangeRatio, seed, repeats } = flags;
      const lengths = { promptLength, outputLength, rangeRatio, seed };
      return await benchThroughput(args, { ...lengths, numPrompts, warmUp, repeats }, events);
    });
  });
}
