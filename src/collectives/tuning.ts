/** Which algorithm moves a collective, and why: a pure function of what is moved, by whom and how. */
import { CollectiveError } from "../common/errors.ts";
import { type Algorithm, ALGORITHMS } from "./signature.ts";
import type { TransportKind } from "./transport/transport.ts";
import { ALL_REDUCE_TABLE, DEVICE_TABLE, type TuningRow } from "./tuningTable.ts";

export interface AlgorithmQuery {
  readonly name: "allReduce" | "reduceScatter" | "allGather";
  /** Of f32 values, before any narrower wire. */
  readonly bytes: number;
  readonly worldSize: number;
  readonly transport: TransportKind;
  /** Where the sums are computed. */
  readonly memory: "host" | "device";
  /** How many hosts the ranks live on; 1 if left out. */
  readonly numHosts?: number | undefined;
  /** What the user asked for; "auto" asks the table. */
  readonly override?: Algorithm | "auto" | undefined;
}

export interface AlgorithmChoice {
  readonly algorithm: Algorithm;
  /** For TANDEM_DEBUG=INFO. */
  readonly reason: string;
}

/** What `--collective-algorithm` takes. */
export const ALGORITHM_CHOICES: readonly (Algorithm | "auto")[] = ["auto", ...ALGORITHMS];

const SUPPORTED: Readonly<Record<AlgorithmQuery["name"], readonly Algorithm[]>> = {
  allReduce: ALGORITHMS,
  reduceScatter: ["oneShot", "ring"],
  allGather: ["oneShot", "ring"],
};

/** The table's columns, from the fewest steps to the fewest bytes. */
const STEPS = ["oneShot", "recursiveDoubling", "halvingDoubling"] as const;

// Below this the one step more that two levels take costs more than the traffic they save.
const TWO_LEVEL_BYTES = 64 * 1024;

export function chooseAlgorithm(query: AlgorithmQuery): AlgorithmChoice {
  const { name, override = "auto" } = query;
  if (override !== "auto" && SUPPORTED[name].includes(override)) {
    return { algorithm: override, reason: "asked for" };
  }
  const choice = choiceOf(query);
  if (override === "auto") return choice;
  return { ...choice, reason: `${name} has no ${override}; ${choice.reason}` };
}

/** An override for one call must exist: unlike the flag, which holds for all operations. */
export function requireAlgorithm(name: AlgorithmQuery["name"], algorithm: Algorithm): void {
  if (SUPPORTED[name].includes(algorithm)) return;
  throw new CollectiveError(
    `${name}: expected an algorithm of ${SUPPORTED[name].join(", ")}, got ${algorithm}`,
  );
}

function choiceOf({
  name,
  bytes,
  worldSize,
  transport,
  memory,
  numHosts = 1,
}: AlgorithmQuery): AlgorithmChoice {
  if (name === "allGather") {
    return { algorithm: "oneShot", reason: "each part crosses to each rank once either way" };
  }
  if (memory === "device" && transport !== "tcp") return deviceChoice(name, bytes, worldSize);
  const row = rowOf(transport, worldSize);
  const table = `table of ${transport}, ${worldSize} ranks`;
  if (name === "reduceScatter") {
    // one step and (n-1)/n of the bytes either way; a ring holds back what is not wanted yet
    const limit = Math.max(...STEPS.map((algorithm) => row[algorithm]));
    return bytes <= limit
      ? { algorithm: "oneShot", reason: `${table}: up to ${limit} bytes` }
      : { algorithm: "ring", reason: `${table}: above ${limit} bytes` };
  }
  if (numHosts > 1 && numHosts < worldSize && bytes >= TWO_LEVEL_BYTES) {
    return { algorithm: "twoLevel", reason: `${worldSize} ranks on ${numHosts} hosts` };
  }
  const algorithm = STEPS.find((step) => bytes <= row[step]);
  if (algorithm !== undefined) {
    return { algorithm, reason: `${table}: up to ${row[algorithm]} bytes` };
  }
  const limit = Math.max(...STEPS.map((step) => row[step]));
  return { algorithm: "ring", reason: `${table}: above ${limit} bytes` };
}

/** Within a process: what counts is how often the host touches a byte, and that a step is a round trip of the GPU. */
function deviceChoice(
  name: "allReduce" | "reduceScatter",
  bytes: number,
  worldSize: number,
): AlgorithmChoice {
  if (name === "reduceScatter") {
    return { algorithm: "oneShot", reason: "sums on devices: one step" };
  }
  const limit = DEVICE_TABLE.find((row) => worldSize <= row.worldSize)?.oneShot ?? 0;
  const table = `table of devices, ${worldSize} ranks`;
  return bytes <= limit
    ? { algorithm: "oneShot", reason: `${table}: up to ${limit} bytes` }
    : { algorithm: "twoShot", reason: `${table}: above ${limit} bytes` };
}

function rowOf(transport: TransportKind, worldSize: number): TuningRow {
  const found = ALL_REDUCE_TABLE[transport].find((row) => worldSize <= row.worldSize);
  return found ?? { worldSize, oneShot: 0, recursiveDoubling: 0, halvingDoubling: 0 };
}
