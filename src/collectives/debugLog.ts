/**
 * What the collectives say about themselves, as NCCL_DEBUG does: `TANDEM_DEBUG` is how much,
 * `TANDEM_DEBUG_SUBSYS` about what. Read once, here; communicators get the result as an argument.
 */
import { UsageError } from "../common/errors.ts";

const LEVELS = ["NONE", "WARN", "INFO", "TRACE"] as const;
export type DebugLevel = (typeof LEVELS)[number];

/** INIT: groups and connections. COLL, P2P: operations. TUNING: choices of algorithm. */
export const SUBSYSTEMS = ["INIT", "COLL", "P2P", "TUNING"] as const;
export type Subsystem = (typeof SUBSYSTEMS)[number];

export interface DebugSettings {
  readonly level: DebugLevel;
  readonly subsystems: ReadonlySet<Subsystem>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** `TANDEM_DEBUG_SUBSYS=COLL,TUNING`, or `^P2P` for all but one; unset means all. */
export function parseDebugSettings(env: Environment): DebugSettings {
  const level = (env["TANDEM_DEBUG"] ?? "").toUpperCase() || "NONE";
  if (!isOneOf(LEVELS, level)) {
    throw new UsageError({
      what: "TANDEM_DEBUG",
      expected: `one of ${LEVELS.join(", ")}`,
      got: level,
    });
  }
  const list = (env["TANDEM_DEBUG_SUBSYS"] ?? "").toUpperCase();
  const isExcluding = list.startsWith("^");
  const named = (isExcluding ? list.slice(1) : list).split(",").filter(Boolean);
  const unknown = named.find((name) => name !== "ALL" && !isOneOf(SUBSYSTEMS, name));
  if (unknown !== undefined) {
    throw new UsageError({
      what: "TANDEM_DEBUG_SUBSYS",
      expected: `names of ${SUBSYSTEMS.join(", ")}, ALL, separated by commas`,
      got: unknown,
    });
  }
  const matches = (name: Subsystem): boolean => named.includes(name) || named.includes("ALL");
  const wanted = SUBSYSTEMS.filter((name) => named.length === 0 || matches(name) !== isExcluding);
  return { level, subsystems: new Set(wanted) };
}

/** From this process's environment; a page has none, and is silent. */
export function debugSettingsOfProcess(): DebugSettings {
  const host: { readonly process?: { readonly env?: Environment } } = globalThis;
  return parseDebugSettings(host.process?.env ?? {});
}

/** One rank's lines. A message that costs something to make is passed as a function. */
export class DebugLog {
  readonly #rank: number;
  readonly #settings: DebugSettings;
  readonly #write: (line: string) => void;
  readonly #said = new Set<string>();

  constructor(rank: number, settings?: DebugSettings, write?: (line: string) => void) {
    this.#rank = rank;
    this.#settings = settings ?? debugSettingsOfProcess();
    this.#write = write ?? ((line) => { console.error(line); }); // prettier-ignore
  }

  isOn(level: DebugLevel, subsystem: Subsystem): boolean {
    const { level: limit, subsystems } = this.#settings;
    return LEVELS.indexOf(level) <= LEVELS.indexOf(limit) && subsystems.has(subsystem);
  }

  /** `tandem: rank 0 INFO TUNING allReduce of 16 KiB …` */
  say(level: DebugLevel, subsystem: Subsystem, message: () => string): void {
    if (!this.isOn(level, subsystem)) return;
    this.#write(`tandem: rank ${this.#rank} ${level} ${subsystem} ${message()}`);
  }

  /** As `say`, the first time only for each key. */
  sayOnce(key: string, level: DebugLevel, subsystem: Subsystem, message: () => string): void {
    if (!this.isOn(level, subsystem) || this.#said.has(key)) return;
    this.#said.add(key);
    this.say(level, subsystem, message);
  }
}

function isOneOf<T extends string>(list: readonly T[], name: string): name is T {
  return (list as readonly string[]).includes(name);
}
