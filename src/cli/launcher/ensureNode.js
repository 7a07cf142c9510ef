/**
 * First step of a start, and the only one that an older Node sees: fetch Node 24 into the cache
 * folder and start the same command under it. Plain JavaScript, since Node 20 cannot strip types.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { packageFiles } from "./packageFiles.js";
import { LaunchError, reportLaunchError } from "./progress.js";

const REQUIRED_MAJOR = 24;

/** @param {string} version as in process.versions.node */
export function isNewEnough(version) {
  return Number.parseInt(version, 10) >= REQUIRED_MAJOR;
}

/**
 * The npm package that carries Node for a platform, and the file in it.
 * @param {string} platform as in process.platform
 * @param {string} arch as in process.arch
 */
export function nodePackage(platform, arch) {
  const system = platform === "win32" ? "win" : platform;
  if (!["linux", "darwin", "win"].includes(system) || !["x64", "arm64"].includes(arch)) {
    throw new LaunchError(
      `Node ${REQUIRED_MAJOR} for ${platform} ${arch}: not on npm; install Node ${REQUIRED_MAJOR} or later yourself`,
    );
  }
  return {
    name: `node-${system}-${arch}`,
    file: system === "win" ? "bin/node.exe" : "bin/node",
  };
}

async function newerNode() {
  const { name, file } = nodePackage(process.platform, process.arch);
  const folder = await packageFiles({
    spec: `${name}@${REQUIRED_MAJOR}`,
    files: [file],
    folder: `${name}-${REQUIRED_MAJOR}`,
    what: `Node ${REQUIRED_MAJOR}, since this one is ${process.versions.node} (~50 MB, once)`,
  });
  return join(folder, file);
}

/**
 * Runs this process's command line under another Node, passing signals on and the exit code back.
 * @param {string} executable
 * @returns {Promise<void>}
 */
function runUnder(executable) {
  const child = spawn(executable, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit",
  });
  // Ctrl-C on a terminal reaches the child by itself: it is in the same process group.
  const hasTerminal = [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY);
  process.on("SIGINT", () => hasTerminal || child.kill("SIGINT"));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  process.on("SIGHUP", () => child.kill("SIGHUP"));
  process.on("SIGUSR2", () => child.kill("SIGUSR2")); // asks the ranks for their flight records
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      if (signal !== null) {
        process.removeAllListeners(signal);
        process.kill(process.pid, signal); // end as the child ended
      }
      process.exitCode = code ?? 1;
      resolve();
    });
  });
}

/** True when this Node is new enough to go on; otherwise the command has been run by a newer one. */
export async function ensureNode() {
  if (isNewEnough(process.versions.node)) return true;
  try {
    await runUnder(await newerNode());
  } catch (error) {
    reportLaunchError(error);
  }
  return false;
}
