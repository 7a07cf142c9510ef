/** `bench`: measurements; a table for people, then one line of JSON as the last line. */
import type { Command } from "commander";
import { UsageError } from "../common/errors.ts";
import { addBenchDecode } from "./benchDecode.ts";
import { addBenchPrefill } from "./benchPrefill.ts";
import { addBenchServe } from "./benchServe.ts";
import type { CommandContext } from "./context.ts";

/** Adds the command and its benchmarks to the program. */
export function addBench(program: Command, context: CommandContext): void {
  const bench = program
    .command("bench")
    .summary("measure decode, prefill or serve")
    .description("Measures one part of the runtime.")
    .argument("[benchmark]");
  addBenchDecode(bench, context);
  addBenchPrefill(bench, context);
  addBenchServe(bench, context);
  bench.action((name: string | undefined) => {
    throw new UsageError({
      what: "bench",
      expected: `one of ${bench.commands.map((command) => command.name()).join(", ")}`,
      got: name === undefined ? "nothing" : JSON.stringify(name),
    });
  });
}
