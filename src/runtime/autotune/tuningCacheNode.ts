/** What autotuning found, on disk: a file an adapter, driver and version of Dawn. */
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { writeFileAtomic } from "../../../models/weights/filesNode.ts";
import { messageOf } from "../../common/errors.ts";
import type { TunedNumbers } from "../../device/adapterInfo.ts";

/** Counts up when entries mean something else, or hold more: files of another format are left alone. */
const FORMAT = 3;

/** What a measurement holds for. */
export interface TuningKey {
  readonly adapter: string;
  readonly driver: string;
  readonly dawn: string;
  readonly robustness: "on" | "off";
}

/** Told once about a file that is there but cannot be used. */
export type CacheNote = (message: string) => void;

/** `$XDG_CACHE_HOME/tandem/tuning`, or the same under `~/.cache`. */
export function tuningFolder(): string {
  const base = process.env["XDG_CACHE_HOME"];
  const root = base === undefined || base === "" ? join(homedir(), ".cache") : base;
  return join(root, "tandem", "tuning");
}

/** The file of a key: readable, and distinct by its hash. */
export function tuningFile(folder: string, key: TuningKey): string {
  const name = key.adapter.replaceAll(/[^A-Za-z0-9]+/g, "-").slice(0, 40);
  const hash = createHash("sha256")
    .update(JSON.stringify(orderedKey(key)))
    .digest("hex");
  return join(folder, `${name}-${hash.slice(0, 12)}.json`);
}

/** The entries of a key; none where there is no file. A file that is damaged or of another key is ignored with a note. */
export async function readTuning(
  folder: string,
  key: TuningKey,
  note: CacheNote,
): Promise<TunedNumbers> {
  const file = tuningFile(folder, key);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      note(`${file}: ignored: ${messageOf(error)}`);
    }
    return {};
  }
  try {
    return parseTuning(text, key);
  } catch (error) {
    note(`${file}: ignored: ${messageOf(error)}; --autotune full writes it anew`);
    return {};
  }
}

/** Replaces the file. One that cannot be written is a note: the numbers hold for this run. */
export async function writeTuning(
  folder: string,
  key: TuningKey,
  tuned: TunedNumbers,
  note: CacheNote,
): Promise<void> {
  const file = tuningFile(folder, key);
  const text = `${JSON.stringify({ format: FORMAT, key: orderedKey(key), tuned }, null, 1)}\n`;
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFileAtomic(file, text);
  } catch (error) {
    note(`${file}: not written: ${messageOf(error)}`);
  }
}

function orderedKey({ adapter, driver, dawn, robustness }: TuningKey): TuningKey {
  return { adapter, driver, dawn, robustness };
}

function parseTuning(text: string, key: TuningKey): TunedNumbers {
  const { format, key: found, tuned } = Object(JSON.parse(text)) as Record<string, unknown>;
  if (format !== FORMAT) throw new Error(`format ${String(format)}, expected ${FORMAT}`);
  if (JSON.stringify(found) !== JSON.stringify(orderedKey(key))) {
    throw new Error("measured on another adapter, driver or version of Dawn");
  }
  if (!isTuned(tuned)) throw new Error("entries are not numbers by name");
  return tuned;
}

function isTuned(value: unknown): value is TunedNumbers {
  const isRecord = (one: unknown): one is Record<string, unknown> =>
    typeof one === "object" && one !== null && !Array.isArray(one);
  if (!isRecord(value)) return false;
  return Object.values(value).every(
    (entry) => isRecord(entry) && Object.values(entry).every((one) => typeof one === "number"),
  );
}
