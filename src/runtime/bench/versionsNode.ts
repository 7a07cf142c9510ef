/** Versions that a benchmark names. */
import { createRequire } from "node:module";
import type { Versions } from "./report.ts";

/** Of Node and of the `webgpu` package, which is Dawn. */
export function versions(): Versions {
  const require = createRequire(import.meta.url);
  const { version } = require("webgpu/package.json") as { version: string };
  return { dawn: `webgpu ${version}`, node: process.version };
}
