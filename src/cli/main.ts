/** The command line: `main(argv)` runs one command and returns the process's exit code. */
import { ensureAdapter, findAdapters } from "./launcher/softwareGpu.ts";

export async function main(argv: readonly string[]): Promise<number> {
  await ensureAdapter(); // before the first device is opened, after the flags are parsed
  process.stdout.write(`${argv.join(" ")} on ${(await findAdapters()).join(", ")}\n`);
  return 0;
}
