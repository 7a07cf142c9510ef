/** Second step of a start: node_modules as package-lock.json says, installed only when it changed. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { npm } from "./packageFiles.js";
import { withLock } from "./progress.js";

/** The folder of package.json, without a separator at its end. */
export const repositoryFolder = fileURLToPath(new URL("../../..", import.meta.url)).replace(
  /[/\\]$/,
  "",
);

/** What the last install wrote down, in node_modules. */
export interface InstallStamp {
  readonly lockHash: string;
  readonly hasDevDependencies: boolean;
}

/** What is known about node_modules before a start. */
export interface InstallState {
  readonly lockHash: string;
  /** Undefined where nothing is installed, or somebody ran npm by hand. */
  readonly stamp: InstallStamp | undefined;
  /** Somebody ran npm by hand after the lock file changed: what it installed, else undefined. */
  readonly byHand: { readonly hasDevDependencies: boolean } | undefined;
}

export type InstallDecision = "nothing" | "withoutDev" | "withDev";

/** Never drops development tools that are there: a run must not break a developer's checkout. */
export function decideInstall(state: InstallState, needsDev: boolean): InstallDecision {
  const { lockHash, stamp, byHand } = state;
  const current = stamp?.lockHash === lockHash ? stamp : byHand;
  if (current !== undefined && (current.hasDevDependencies || !needsDev)) return "nothing";
  return needsDev || stamp?.hasDevDependencies === true ? "withDev" : "withoutDev";
}

const LOCK_FILE = join(repositoryFolder, "package-lock.json");
const INSTALLED = join(repositoryFolder, "node_modules");
const STAMP_FILE = join(INSTALLED, ".tandem-install.json");

function readStamp(): InstallStamp | undefined {
  try {
    const stamp = JSON.parse(readFileSync(STAMP_FILE, "utf8")) as Partial<InstallStamp>;
    const { lockHash, hasDevDependencies } = stamp;
    if (lockHash === undefined || hasDevDependencies === undefined) return undefined;
    return { lockHash, hasDevDependencies };
  } catch {
    return undefined; // missing or damaged: install again
  }
}

function installedByHand(): InstallState["byHand"] {
  const npmRecord = statSync(join(INSTALLED, ".package-lock.json"), { throwIfNoEntry: false });
  if (npmRecord === undefined || npmRecord.mtimeMs < statSync(LOCK_FILE).mtimeMs) return undefined;
  return { hasDevDependencies: existsSync(join(INSTALLED, "vitest")) };
}

function readState(): InstallState {
  const lockHash = createHash("sha256").update(readFileSync(LOCK_FILE)).digest("hex");
  return { lockHash, stamp: readStamp(), byHand: installedByHand() };
}

/** Installs what the lock file names, unless that has been done; `needsDev` adds the test tools. */
export async function ensureDependencies(needsDev: boolean): Promise<void> {
  if (decideInstall(readState(), needsDev) === "nothing") return;
  const place = createHash("sha256").update(repositoryFolder).digest("hex").slice(0, 16);
  await withLock(`install-${place}`, async () => {
    const state = readState(); // another start may have installed meanwhile
    const decision = decideInstall(state, needsDev);
    if (decision === "nothing") return;
    const withDev = decision === "withDev";
    const omit = withDev ? [] : ["--omit=dev"];
    const what = withDev ? "dependencies and development tools" : "dependencies";
    await npm(`Installing ${what} (npm ci)`, ["ci", "--ignore-scripts", ...omit], repositoryFolder);
    const stamp: InstallStamp = { lockHash: state.lockHash, hasDevDependencies: withDev };
    writeFileSync(STAMP_FILE, JSON.stringify(stamp));
  });
}
