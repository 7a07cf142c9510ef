/** `bench`: measurements; a table for people, then one line of JSON as the last line. */
import type { Command } from "commander";
import { UsageError } from "../common/errors.ts";
import { addBenchCollectives } from "./benchCollectives.ts";
import { addBenchDecode } from "./benchDecode.ts";
import { addBenchKernels } from "./benchKernels.ts";
import { addBenchLatency } from "./benchLatency.ts";
import { addBenchLoad } from "./benchLoad.ts";
import { addBenchPrefill } from "./benchPrefill.ts";
import { addBenchServe } from "./benchServe.ts";
import { addBenchThroughput } from "./benchThroughput.ts";
import type { CommandContext } from "./context.ts";

/** Adds the command and its benchmarks to the program. */
export function addBench(program: Command, context: CommandContext): void {
  const bench = program
    .command("bench")
    .summary("measure decode, prefill, kernels, latency, throughput, load, collectives or a server")
    .description("Measures one part of the runtime.")
    .argument("[benchmark]");
  addBenchDecode(bench, context);
  addBenchPrefill(bench, context);
  addBenchKernels(bench, context);
  addBenchLatency(bench, context);
  addBenchThroughput(bench, context);
  addBenchLoad(bench, context);
  addBenchServe(bench, context);
  addBenchCollectives(bench, context);
  bench.action((name: string | undefined) => {
    throw new UsageError({
      what: "bench",
      expected: `one of ${bench.commands.map((command) => command.name()).join(", ")}`,
      got: name === undefined ? "nothing" : JSON.stringify(name),
    });
  });
}
