/** The Vulkan drivers that the loader on Linux would read. */
import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

type Environment = Readonly<Record<string, string | undefined>>;

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
