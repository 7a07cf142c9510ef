/** Plain log lines on stderr, so that stdout stays what the model said. */
import { UsageError } from "./errors.ts";

const levels = ["debug", "info", "warn", "error", "silent"] as const;

/** How much is said: a level and everything after it in `debug, info, warn, error, silent`. */
export type LogLevel = (typeof levels)[number];

/** One part's log. A message is one line; who needs an expensive one passes a function. */
export interface Logger {
  readonly level: LogLevel;
  debug(message: string | (() => string)): void;
  info(message: string | (() => string)): void;
  warn(message: string | (() => string)): void;
  error(message: string | (() => string)): void;
}

/** Reads TANDEM_LOG's value; unset or empty means `info`. */
export function parseLogLevel(text: string | undefined): LogLevel {
  if (text === undefined || text === "") return "info";
  const level = levels.find((known) => known === text.toLowerCase());
  if (level !== undefined) return level;
  throw new UsageError({
    what: "TANDEM_LOG",
    expected: `one of ${levels.join(", ")}`,
    got: text,
  });
}

// A page has no `process`; there the level is the default.
function levelFromEnvironment(): LogLevel {
  const host: { readonly process?: { readonly env?: Record<string, string | undefined> } } =
    globalThis;
  return parseLogLevel(host.process?.env?.["TANDEM_LOG"]);
}

/** Options of `createLogger`; tests pass both. */
export interface LoggerOptions {
  readonly level?: LogLevel;
  readonly write?: (line: string) => void;
}

/**
 * A logger whose lines begin with `scope`. The level is read once, here, and the logger is then passed
 * along as an argument, so nothing looks at the environment while steps run.
 */
export function createLogger(scope: string, options: LoggerOptions = {}): Logger {
  const level = options.level ?? levelFromEnvironment();
  const write = options.write ?? ((line: string): void => { console.error(line); }); // prettier-ignore
  const at =
    (name: LogLevel) =>
    (message: string | (() => string)): void => {
      if (levels.indexOf(name) < levels.indexOf(level)) return;
      const prefix = name === "info" ? "" : `${name}: `;
      write(`${prefix}${scope}: ${typeof message === "string" ? message : message()}`);
    };
  return { level, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
