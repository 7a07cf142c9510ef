/** What `severalGpus.ts` runs on a machine, in order of worth: the time may end before the list does. */

/** What decides the plan; from `devices --json`. */
export interface Machine {
  readonly numDevices: number;
  /** Of the smallest device; null where the driver does not say. */
  readonly memoryBytes: number | null;
  readonly isSoftware: boolean;
}

/** One command line of Tandem. */
export interface Step {
  /** Of its result file. */
  readonly name: string;
  /** After `node run.ts`. */
  readonly args: readonly string[];
}

const RANK_COUNTS = [1, 2, 4, 8];
/** bf16 weights of Llama-3.1-70B, and what a device holds besides. */
const LARGE_MODEL_BYTES = 141.2e9;
const SPARE_BYTES = 8e9;

interface Sizes {
  readonly model: readonly string[];
  readonly decode: readonly string[];
  readonly prefill: readonly string[];
  readonly collectives: readonly string[];
}

const FULL: Sizes = {
  model: ["--model", "Llama-3.1-8B", "--load-format", "dummy", "--max-model-len", "2304"],
  decode: ["--prompt-len", "256", "--output-len", "64", "--batch-size", "1,32", "--repeats", "2"],
  prefill: ["--prompt-len", "2048", "--max-num-batched-tokens", "2048", "--repeats", "5"],
  collectives: ["--sizes", "16K,64K,256K,1M,16M,64M", "--budget", "20"],
};

/** Software adapters: every step, as short as it goes. */
const SMALL: Sizes = {
  model: [],
  decode: ["--prompt-len", "16", "--output-len", "8", "--batch-size", "1,4", "--repeats", "1"],
  prefill: ["--prompt-len", "64", "--repeats", "1"],
  collectives: ["--sizes", "4K,64K", "--budget", "5"],
};

/** The full plan of a machine; a short one on software adapters. */
export function planSteps(machine: Machine): Step[] {
  const { numDevices, isSoftware } = machine;
  const sizes = isSoftware ? SMALL : FULL;
  const counts = RANK_COUNTS.filter((count) => count <= numDevices);
  const [several, most] = [counts.filter((count) => count > 1), counts.at(-1) ?? 1];
  const tensor = counts.flatMap((tp) => speedSteps(sizes, machine, tp, 1));
  const narrow = several.map((tp) => narrowStep(sizes, machine, tp));
  const pipeline = several
    .filter((pp) => pp <= 4)
    .flatMap((pp) => speedSteps(sizes, machine, 1, pp));
  return [
    { name: "devices", args: ["devices", "--json"] },
    ...(most > 1 ? [setupStep(machine, most)] : []),
    ...several.filter((tp) => tp <= 4).map((tp) => verifyStep(machine, tp)),
    ...tensor,
    ...pipeline,
    ...narrow,
    ...largeSteps(machine, most),
    ...several.map((count) => collectivesStep(sizes, machine, count)),
  ];
}

/** Software adapters are not dealt by themselves, as more of them are no gain; hardware is. */
function devicesOf({ isSoftware }: Machine, count: number): string[] {
  const indices = Array.from({ length: count }, (_, index) => index);
  return isSoftware ? ["--devices", indices.join(",")] : [];
}

function layoutArgs(machine: Machine, tp: number, pp: number): string[] {
  const unchecked = machine.isSoftware ? [] : ["--disable-robustness"];
  return ["--tp", String(tp), "--pp", String(pp), ...devicesOf(machine, tp * pp), ...unchecked];
}

/** Latency and copy rate between every two of all devices. */
function setupStep(machine: Machine, count: number): Step {
  const layout = ["--tp", String(count), ...devicesOf(machine, count)];
  return { name: `verify-setup-${count}`, args: ["verify-setup", ...layout, "--json"] };
}

function speedSteps(sizes: Sizes, machine: Machine, tp: number, pp: number): Step[] {
  const layout = layoutArgs(machine, tp, pp);
  return (["decode", "prefill"] as const).map((benchmark) => ({
    name: `${benchmark}-tp${tp}-pp${pp}`,
    args: ["bench", benchmark, ...sizes.model, ...sizes[benchmark], ...layout, "--json"],
  }));
}

/** Prefill with sums that travel as f16: half of what the host has to copy. */
function narrowStep(sizes: Sizes, machine: Machine, tp: number): Step {
  const layout = [...layoutArgs(machine, tp, 1), "--collective-wire-dtype", "f16"];
  return {
    name: `prefill-tp${tp}-f16`,
    args: ["bench", "prefill", ...sizes.model, ...sizes.prefill, ...layout, "--json"],
  };
}

/** The demo model with its real weights against one device. */
function verifyStep(machine: Machine, tp: number): Step {
  const layout = ["--tp", String(tp), ...devicesOf(machine, tp)];
  return { name: `verify-tp${tp}`, args: ["verify", ...layout, "--json"] };
}

function collectivesStep(sizes: Sizes, machine: Machine, ranks: number): Step {
  const of = ["--ranks", String(ranks), "--memory", "device", "--ops", "all_reduce,send_recv"];
  of.push("--algorithms", "oneShot,twoShot,ring");
  const args = ["bench", "collectives", ...of, ...sizes.collectives, ...devicesOf(machine, ranks)];
  return { name: `collectives-${ranks}`, args: [...args, "--json"] };
}

/** A model that one device does not hold, where all of them do. */
function largeSteps(machine: Machine, most: number): Step[] {
  const { memoryBytes, isSoftware } = machine;
  const holds = memoryBytes !== null && LARGE_MODEL_BYTES / most + SPARE_BYTES < memoryBytes;
  if (isSoftware || most < 2 || !holds) return [];
  const model = ["--model", "Llama-3.1-70B", "--load-format", "dummy", "--max-model-len", "2304"];
  const workload = ["--prompt-len", "64", "--output-len", "16", "--batch-size", "1,32"];
  const args = ["bench", "decode", ...model, ...workload, "--repeats", "1"];
  return [
    { name: `large-pp${most}`, args: [...args, ...layoutArgs(machine, 1, most), "--json"] },
    { name: `large-tp${most}`, args: [...args, ...layoutArgs(machine, most, 1), "--json"] },
  ];
}
