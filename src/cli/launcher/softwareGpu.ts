/**
 * Last step of a start that needs a GPU: where Dawn finds no adapter, SwiftShader takes its place.
 * A Vulkan driver is named by the environment that a process starts with, so this starts over.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { AdapterError, messageOf } from "../../common/errors.ts";
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

/** Folders in which the Vulkan loader looks for drivers when no variable names them. */
export function driverFolders(env: Environment, home: string): string[] {
  const list = (name: string, fallback: string): string[] => (env[name] || fallback).split(":");
  return [
    ...list("XDG_CONFIG_HOME", join(home, ".config")),
    ...list("XDG_CONFIG_DIRS", "/etc/xdg"),
    "/etc",
    ...list("XDG_DATA_HOME", join(home, ".local/share")),
    ...list("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
  ].map((base) => join(base, "vulkan/icd.d"));
}

/** The driver files that the Vulkan loader would read. */
export function installedDrivers(env: Environment): string[] {
  const named = env["VK_DRIVER_FILES"] ?? env["VK_ICD_FILENAMES"];
  if (named !== undefined) return named.split(":").filter((file) => existsSync(file));
  return driverFolders(env, homedir())
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((file) => join(folder, file)));
}

/** The adapters in Dawn's answer to a name that no adapter has: it lists those that exist. */
export function adaptersInMessage(message: string): string[] {
  return [...message.matchAll(/backend: '(?:vulkan|metal|d3d11|d3d12)', name: '([^']*)'/g)].map(
    ([, name]) => name ?? "",
  );
}

/** Names of the adapters that Dawn finds in this process. */
export async function findAdapters(): Promise<string[]> {
  // Without drivers Dawn would only print its own complaints.
  if (process.platform === "linux" && installedDrivers(process.env).length === 0) return [];
  const { create } = await import("webgpu");
  try {
    await create(["adapter=no adapter has this name"]).requestAdapter();
    return [];
  } catch (error) {
    return adaptersInMessage(messageOf(error));
  }
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
