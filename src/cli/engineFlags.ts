/** Flags of the engine by group: collectives, memory, batching. */
import { type Command, Option } from "commander";
import { COLLECTIVE_ALGORITHMS, COLLECTIVE_WIRES } from "../runtime/collectiveArgs.ts";
import { DEFAULT_ENGINE_ARGS, MAX_SCHEDULER_STEPS } from "../runtime/engineArgs.ts";
import { addAll, flag } from "./flag.ts";
import { fraction, oneOf, positiveNumber, wholeNumber } from "./values.ts";

const count = wholeNumber({ min: 1 });

/** How much memory the KV cache gets. */
export function addMemoryFlags(command: Command): Command {
  return addAll(command, "Memory:", [
    flag(
      "--gpu-memory-utilization <x>",
      "part of each device's memory to use, all of it for the KV cache (default: what --max-num-seqs needs, within 0.9)",
      fraction,
    ),
    flag(
      "--kv-cache-memory-mib <n>",
      "KV cache of each rank, in place of measuring (software devices: 1024 over all ranks)",
      count,
    ),
  ]);
}

/** How ranks exchange what they have. */
export function addCollectiveFlags(command: Command): void {
  addAll(command, "Collectives:", [
    flag(
      "--collective-algorithm <name>",
      `of all-reduces: ${COLLECTIVE_ALGORITHMS.join(", ")} (default: auto, by a measured table)`,
      oneOf(COLLECTIVE_ALGORITHMS),
    ),
    flag(
      "--collective-wire-dtype <type>",
      "how sums travel: f32, f16, bf16, or q8 (8 bits and a scale a block; for prefill) (default: f32)",
      oneOf(COLLECTIVE_WIRES, { float32: "f32", float16: "f16", bfloat16: "bf16", int8: "q8" }),
    ),
    flag(
      "--collective-wire-from <bytes>",
      "sums of fewer bytes travel as f32 (default: 0)",
      wholeNumber({ min: 0 }),
    ),
    flag(
      "--collective-timeout <seconds>",
      `until a rank counts as missing (default: ${DEFAULT_ENGINE_ARGS.collectiveTimeoutMs / 1000})`,
      positiveNumber,
    ),
  ]);
}

/** How many requests share a step, and which. */
export function addBatchingFlags(command: Command): Command {
  return addAll(command, "Batching:", [
    flag(
      "--max-num-seqs <n>",
      `sequences at once (default: ${DEFAULT_ENGINE_ARGS.maxNumSeqs}; of a server 32)`,
      count,
    ),
    flag(
      "--max-num-batched-tokens <n>",
      "tokens of one step (default: 512 on software devices, 2048 on hardware)",
      count,
    ),
    new Option("--enable-prefix-caching", "find KV blocks of earlier prompts (default)"),
    new Option("--no-enable-prefix-caching", "compute every prompt anew"),
    flag(
      "--scheduling-policy <policy>",
      "fcfs, or priority: requests may name one (default: fcfs)",
      oneOf(["fcfs", "priority"]),
    ),
    flag(
      "--max-num-partial-prefills <n>",
      "long prompts that may be under way at once, in chunks (default: 1)",
      count,
    ),
    flag(
      "--long-prefill-token-threshold <tokens>",
      "prompt tokens of one sequence in a step (default: all that fit)",
      count,
    ),
    flag(
      "--num-scheduler-steps <n>",
      `decode steps that a single rank submits together while they are short (default: ${DEFAULT_ENGINE_ARGS.numSchedulerSteps})`,
      wholeNumber({ min: 1, max: MAX_SCHEDULER_STEPS }),
    ),
  ]);
}
