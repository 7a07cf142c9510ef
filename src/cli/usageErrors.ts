/** What commander finds wrong with a command line, said as all errors are: what, expected, got, remedy. */
import { type Command, CommanderError } from "commander";
import { type Problem, UsageError } from "../common/errors.ts";

/** Exits of commander that are no errors: help and version, once shown. */
const DONE: ReadonlySet<string> = new Set([
  "commander.help",
  "commander.helpDisplayed",
  "commander.version",
]);

/** True when commander has shown what was asked for. */
export function isDone(error: unknown): boolean {
  return error instanceof CommanderError && DONE.has(error.code);
}

/** A UsageError for an error of commander, everything else as it is. */
export function translateError(error: unknown, program: Command, argv: readonly string[]): unknown {
  if (!(error instanceof CommanderError)) return error;
  const [, name = ""] = /'([^']*)'/.exec(error.message) ?? [];
  const [, similar] = /\(Did you mean (?:one of )?(.*)\?\)/.exec(error.message) ?? [];
  const problem = describe(error, name, commandOf(program, argv));
  if (problem === undefined) return new UsageError(error.message.replace(/^error: /, ""));
  return new UsageError(
    similar === undefined ? problem : { ...problem, remedy: `did you mean ${similar}?` },
  );
}

function describe(error: CommanderError, name: string, command: string): Problem | undefined {
  const help = `node run.ts ${command} --help`;
  switch (error.code) {
    case "commander.unknownOption":
      return {
        what: `flag ${name}`,
        expected: `a flag of ${command}`,
        got: "an unknown one",
        remedy: `\`${help}\` lists them`,
      };
    case "commander.optionMissingArgument": {
      const [flags, value] = splitFlags(name);
      return { what: flags, expected: value, got: "nothing", remedy: `\`${help}\` explains it` };
    }
    case "commander.missingMandatoryOptionValue": {
      const [flags, value] = splitFlags(name);
      return { what: flags, expected: value, got: "nothing", remedy: `add ${flags} ${value}` };
    }
    case "commander.excessArguments":
      return excessArguments(error.message, command, help);
    case "commander.unknownCommand":
      return { what: "command", expected: "a known one", got: name };
    default:
      return undefined;
  }
}

/** `--tp, --tensor-parallel-size <n>` as its long names and its value. */
function splitFlags(flags: string): [flags: string, value: string] {
  const [value = ""] = /<.*>/.exec(flags) ?? [];
  const names = flags.replace(value, "").trim().split(", ");
  return [names.reverse().join("/"), value];
}

function excessArguments(message: string, command: string, help: string): Problem {
  const [, expected = "0", got = "more"] = /Expected (\d+) .*got (\d+)/.exec(message) ?? [];
  return {
    what: `arguments of ${command}`,
    expected: expected === "0" ? "none" : `at most ${expected}`,
    got,
    remedy: expected === "0" ? `see \`${help}\`` : "put the prompt in quotes",
  };
}

/** The command that the line is taken for, as `bench decode`. */
function commandOf(program: Command, argv: readonly string[]): string {
  const named = program.commands.find((command) => command.name() === argv[0]);
  if (named === undefined) return "generate";
  const sub = named.commands.find((command) => command.name() === argv[1]);
  return sub === undefined ? named.name() : `${named.name()} ${sub.name()}`;
}

/**
 * A line without a command is a prompt, so a mistyped command would be one too: refuses a single
 * word that is, or nearly is, the name of one.
 */
export function refuseMistypedCommand(
  program: Command,
  argv: readonly string[],
  prompt: string,
): void {
  const names = program.commands.map((command) => command.name());
  if (names.includes(argv[0] ?? "") || prompt.length < 4) return;
  const meant = names.find((name) => editDistance(prompt, name) <= 2);
  if (meant === undefined) return;
  throw new UsageError({
    what: "command",
    expected: `one of ${names.join(", ")} as the first word, or a prompt`,
    got: JSON.stringify(prompt),
    remedy: `did you mean \`node run.ts ${meant}\`? As a prompt: \`node run.ts generate ${prompt}\``,
  });
}

/** Letters to add, drop or change to make one word the other (Levenshtein). */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [row, letter] of Array.from(a).entries()) {
    const current = [row + 1];
    for (const [at, other] of Array.from(b).entries()) {
      const changed = (previous[at] ?? 0) + (letter === other ? 0 : 1);
      current.push(Math.min(changed, (previous[at + 1] ?? 0) + 1, (current[at] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
