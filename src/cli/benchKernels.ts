/** `bench kernels`: each kernel family at a model's sizes. */
import type { Command } from "commander";
import { UsageError } from "../common/errors.ts";
import { addOutputFlags, addWorkload, counts, type OutputFlags, printBench } from "./benchFlags.ts";
import type { CommandContext } from "./context.ts";
import { addModelFlags, flag, type ModelFlags } from "./flags.ts";
import { type ValueParser, wholeNumber } from "./values.ts";

/** As kernelCase.ts has them; that file is loaded with the runtime. */
const FAMILIES = ["linear", "attention", "norm", "embedding", "sampling"] as const;
type Family = (typeof FAMILIES)[number];

interface BenchKernelsFlags extends ModelFlags, OutputFlags {
  readonly family: readonly Family[];
  readonly tokens: readonly number[];
  readonly context: readonly number[];
  readonly repeats: number;
}

const families: ValueParser<readonly Family[]> = (text, name) =>
  text.split(",").map((part) => {
    const family = FAMILIES.find((known) => known === part);
    if (family !== undefined) return family;
    const expected = `some of ${FAMILIES.join(", ")} between commas`;
    throw new UsageError({ what: name, expected, got: JSON.stringify(part) });
  });

export function addBenchKernels(bench: Command, context: CommandContext): void {
  const command = bench
    .command("kernels")
    .summary("time of each kernel at a model's sizes, beside its bound")
    .description(
      "Times rank 0's kernels one by one, with weights that no cache holds. Loads no model.",
    );
  addWorkload(command, [
    flag("--family <list>", "which kernels", families).default([...FAMILIES]),
    flag("--tokens <list>", "tokens of a step, a row each", counts).default([1, 8, 64, 512]),
    flag("--context <list>", "positions before decode attention's token", counts).default([
      512, 2048,
    ]),
    flag("--repeats <n>", "measured runs: median and spread", wholeNumber({ min: 1 })).default(5),
  ]);
  addModelFlags(command);
  addOutputFlags(command);
  command.action(async (flags: BenchKernelsFlags) => {
    await printBench(context, flags, async (args) => {
      const { benchKernels } = await import("../runtime/bench/kernels.ts");
      const { family, tokens, context: contexts, repeats } = flags;
      return await benchKernels(args, { families: family, tokens, contexts, repeats });
    });
  });
}
