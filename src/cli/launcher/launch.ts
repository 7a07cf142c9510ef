/** Third step of a start, under Node 24: dependencies, then the command itself. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { ensureDependencies } from "./dependencies.ts";
import { cacheFolder, reportLaunchError } from "./progress.js";

/** Runs the command line `argv`; the process ends with its exit code once nothing is pending. */
export async function launch(argv: readonly string[]): Promise<void> {
  try {
    await ensureDependencies(false);
  } catch (error) {
    reportLaunchError(error);
    return;
  }
  enableCompileCache(join(cacheFolder(), "compiled"));
  const { main } = await import("../main.ts"); // imports packages, so only now
  process.exitCode = await main(argv);
}
