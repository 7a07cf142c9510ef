/** Prints the names of Dawn's adapters as JSON: a process of its own, for its environment's sake. */
import { findAdapters } from "../src/cli/launcher/softwareGpu.ts";

console.log(JSON.stringify(await findAdapters()));
