/**
 * Last step of a start that needs a GPU: where Dawn finds no adapter, SwiftShader takes its place.
 * A Vulkan driver is named by the environment that a process starts with, so this starts over.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { AdapterError } from "../../common/errors.ts";
import { installedDrivers } from "../../common/vulkanDriversNode.ts";
import { packageFiles, untar } from "./packageFiles.js";
import { LaunchError } from "./progress.js";

/** Set in the restarted process, so that it does not look for a fallback again. */
export const SOFTWARE_GPU_VARIABLE = "TANDEM_SOFTWARE_GPU";

const CHROMIUM_VERSION = "147.0.0"; // the latest whose SwiftShader passed all tests
const ARCHIVE = "bin/swiftshader.tar.br";
/** SwiftShader's driver file in its folder. */
export const SWIFTSHADER_DRIVER = "vk_swiftshader_icd.json";
const KEPT_FILES = ["libvk_swiftshader.so", "libvulkan.so.1", SWIFTSHADER_DRIVER];

/** Chromium's build of SwiftShader on npm is for this platform only. */
export function hasSoftwareGpu(platform: string, arch: string): boolean {
  return platform === "linux" && arch === "x64";
}

/** The folder with SwiftShader and a Vulkan loader, fetched the first time. */
export async function fetchSwiftShader(): Promise<string> {
  return packageFiles({
    spec: `@sparticuz/chromium@${CHROMIUM_VERSION}`,
    files: [ARCHIVE],
    folder: `swiftshader-${CHROMIUM_VERSION}`,
    what: "the software GPU SwiftShader (~70 MB, once)",
    prepare: async (folder) => {
      const tar = join(folder, "swiftshader.tar");
      writeFileSync(tar, brotliDecompressSync(readFileSync(join(folder, ARCHIVE))));
      await untar(["-xf", tar], folder);
      for (const name of readdirSync(folder)) {
        if (!KEPT_FILES.includes(name)) rmSync(join(folder, name), { recursive: true });
      }
    },
  });
}

type Environment = Readonly<Record<string, string | undefined>>;

/** What a process needs in its environment to see these Vulkan drivers and no others. */
export function vulkanEnvironment(
  env: Environment,
  drivers: readonly string[],
  loaderFolder: string,
): Record<string, string> {
  const libraries = [loaderFolder, env["LD_LIBRARY_PATH"]].filter(Boolean);
  return { VK_ICD_FILENAMES: drivers.join(":"), LD_LIBRARY_PATH: libraries.join(":") };
}

/** Names of the adapters that Dawn finds in this process, whether or not Tandem is to use them. */
export async function findAdapters(): Promise<readonly string[]> {
  // Without drivers Dawn would only print its own complaints.
  if (process.platform === "linux" && installedDrivers(process.env).length === 0) return [];
  const { adapterNames } = await import("../../runtime/devices.ts");
  return await adapterNames();
}

async function swiftShaderOrError(): Promise<string> {
  try {
    return await fetchSwiftShader();
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    throw new AdapterError(`no GPU found, and no software GPU in its place: ${error.message}`);
  }
}

/**
 * Returns when there is an adapter, or nothing to put in its place (opening a device then says so).
 * Otherwise replaces this process by the same command on SwiftShader, and does not return.
 */
export async function ensureAdapter(): Promise<void> {
  if (process.env[SOFTWARE_GPU_VARIABLE] !== undefined) return;
  if (!hasSoftwareGpu(process.platform, process.arch)) return;
  if ((await findAdapters()).length > 0) return;
  const folder = await swiftShaderOrError();
  process.stderr.write("No GPU found: running on SwiftShader, a software GPU, which is slow.\n");
  process.execve?.(
    process.execPath,
    [process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    {
      ...process.env,
      ...vulkanEnvironment(process.env, [join(folder, SWIFTSHADER_DRIVER)], folder),
      [SOFTWARE_GPU_VARIABLE]: "swiftshader",
    },
  );
}
