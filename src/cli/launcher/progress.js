/** What the launcher shows, and the lock that keeps two first starts from doing the same work. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const STALE_LOCK_MS = 30 * 60_000;
const POLL_MS = 200;

/** A start that failed for a reason the user can mend: one line, exit code 2. */
export class LaunchError extends Error {}

/** @param {unknown} error */
export function reportLaunchError(error) {
  if (!(error instanceof LaunchError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}

/**
 * Shows a step with its elapsed time while it runs: counting on a terminal, one line in a log.
 * @template T
 * @param {string} label
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function showStep(label, work) {
  const { stderr } = process;
  const startMs = Date.now();
  const elapsed = () => `${((Date.now() - startMs) / 1000).toFixed(0)} s`;
  stderr.write(stderr.isTTY ? `${label} …` : `${label} …\n`);
  const ticker = stderr.isTTY
    ? setInterval(() => stderr.write(`\r${label} … ${elapsed()}`), 1000)
    : undefined;
  try {
    const result = await work();
    if (stderr.isTTY) stderr.write(`\r${label} … done in ${elapsed()}`);
    return result;
  } finally {
    clearInterval(ticker);
    if (stderr.isTTY) stderr.write("\n");
  }
}

/** Where fetched programs are kept: $XDG_CACHE_HOME/tandem or ~/.cache/tandem. */
export function cacheFolder() {
  const base = process.env.XDG_CACHE_HOME;
  return join(base === undefined || base === "" ? join(homedir(), ".cache") : base, "tandem");
}

/** @param {string} lock */
function isStale(lock) {
  try {
    if (Date.now() - statSync(lock).mtimeMs > STALE_LOCK_MS) return true;
    process.kill(Number(readFileSync(lock, "utf8")), 0); // throws when no such process exists
    return false;
  } catch (error) {
    return errorCode(error) === "ESRCH" || errorCode(error) === "ENOENT";
  }
}

/** @param {unknown} error */
export function errorCode(error) {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** @param {string} lock */
function tryLock(lock) {
  try {
    mkdirSync(dirname(lock), { recursive: true });
    writeFileSync(lock, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    const reason = error instanceof Error ? error.message : String(error);
    throw new LaunchError(
      `cache folder: expected a writable one, got ${reason}; set XDG_CACHE_HOME`,
    );
  }
}

/**
 * Runs `work` while no other process on this machine runs work under the same lock name.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(name, work) {
  const lock = join(cacheFolder(), `${name}.lock`);
  for (let tries = 0; !tryLock(lock); tries++) {
    if (isStale(lock)) rmSync(lock, { force: true });
    else if (tries === 1) process.stderr.write("Waiting for another start of Tandem to set up …\n");
    await sleep(POLL_MS);
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}
