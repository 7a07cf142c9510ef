/** One flag: its names, its help, and how its value is read. */
import { type Command, Option } from "commander";
import type { ValueParser } from "./values.ts";

/** `names` as commander takes them: the short alias first, as `--tp, --tensor-parallel-size <n>`. */
export function flag<T>(names: string, description: string, parse: ValueParser<T>): Option {
  const option = new Option(names, description);
  const label = [option.long, option.short].filter(Boolean).join("/");
  return option.argParser((text) => parse(text, label));
}

/** Adds options under one heading of the help. */
export function addAll(command: Command, heading: string, options: readonly Option[]): Command {
  for (const option of options) command.addOption(option.helpGroup(heading));
  return command;
}
