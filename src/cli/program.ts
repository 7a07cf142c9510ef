/** All commands under one roof, and how their help looks. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Help, type Option } from "commander";
import { addBench } from "./bench.ts";
import type { CommandContext } from "./context.ts";
import { addDevices } from "./devices.ts";
import { addGenerate } from "./generate.ts";
import { repositoryFolder } from "./launcher/dependencies.ts";
import { addLogits } from "./logits.ts";
import { addServe } from "./serve.ts";
import { addVerify } from "./verify.ts";
import { addVerifySetup } from "./verifySetup.ts";

const EXAMPLES = `
Examples:
  node run.ts "Once upon a time"                     the demo model over 2 virtual devices
  node run.ts --tp 2 --pp 2 --model DIR "Once upon"  a checkpoint over 4 ranks
  node run.ts devices                                what there is to run on
  node run.ts verify --model DIR --tp 2              is the layout right?
  node run.ts logits --model DIR --prompt-ids 5,6,7 --out logits.safetensors
  node run.ts bench decode --model Llama-3.2-1B --load-format dummy

The flags above are those of generate; \`node run.ts COMMAND --help\` has those of another command.
TANDEM_LOG=debug shows more, and a stack with each error.`;

/** The version that package.json names. */
function packageVersion(): string {
  const path = join(repositoryFolder, "package.json");
  return (JSON.parse(readFileSync(path, "utf8")) as { readonly version: string }).version;
}

/** The whole command line; parsing it runs a command. */
export function createProgram(context: CommandContext): Command {
  const program = new Command("node run.ts");
  program
    .description("Runs one Llama-style language model over several WebGPU devices.")
    .optionsGroup("Help:")
    .version(packageVersion(), "--version", "show the version")
    .helpOption("--help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      outputError: () => undefined, // main says it, in the form of all errors
    })
    .configureHelp({ visibleOptions, commandUsage, subcommandTerm })
    .addHelpText("after", EXAMPLES);
  for (const add of [
    addGenerate,
    addServe,
    addDevices,
    addVerify,
    addVerifySetup,
    addLogits,
    addBench,
  ]) {
    add(program, context);
  }
  return program;
}

/** The program's own help also has the flags of the command that runs where none is named. */
function visibleOptions(this: Help, command: Command): Option[] {
  const own = Help.prototype.visibleOptions.call(this, command);
  const fallback = command.commands.find((each) => each.name() === "generate");
  if (fallback === undefined) return own;
  const more = Help.prototype.visibleOptions.call(this, fallback);
  return [...more.filter(({ long }) => long !== "--help"), ...own];
}

function commandUsage(this: Help, command: Command): string {
  if (command.parent === null) return "node run.ts [command] [flags] [prompt]";
  return Help.prototype.commandUsage.call(this, command).replace("[options]", "[flags]");
}

function subcommandTerm(command: Command): string {
  const names = command.registeredArguments.map((argument) => `[${argument.name()}]`);
  return [command.name(), ...names].join(" ");
}
