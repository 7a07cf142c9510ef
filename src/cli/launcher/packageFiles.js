/** Single files out of npm packages, through the user's own npm (its registry, proxy and cache). */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, LaunchError, showStep, withLock } from "./progress.js";

const NOT_FOUND = 127; // a shell's exit code for a command that does not exist

/**
 * Runs a command with its output kept off the screen.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} cwd
 * @returns {Promise<{ code: number; output: string }>} its exit code and all that it printed
 */
function runQuietly(command, args, cwd) {
  return new Promise((resolve) => {
    const shell = process.platform === "win32"; // npm is npm.cmd there
    const child = spawn(command, args, { cwd, shell, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const collect = (/** @type {Buffer} */ chunk) => (output += chunk.toString());
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (error) => {
      resolve({ code: NOT_FOUND, output: error.message });
    });
    child.on("close", (code) => {
      resolve({ code: code ?? 1, output });
    });
  });
}

/**
 * The line of npm's output that says why it failed.
 * @param {string} output
 */
export function npmFailure(output) {
  const lines = output.split("\n").map((line) => line.replace(/^npm (error|ERR!) ?/, "").trim());
  const errors = lines.filter(
    (line, index) => line !== "" && !/^npm (warn|notice)/i.test(lines[index] ?? ""),
  );
  const isDetail = /^(code|errno|syscall|A complete log|.*_logs)/;
  return errors.find((line) => !isDetail.test(line)) ?? "no output";
}

/**
 * Runs npm with progress on stderr and nothing on stdout.
 * @param {string} what the progress line
 * @param {readonly string[]} args
 * @param {string} cwd
 */
export async function npm(what, args, cwd) {
  const flags = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"];
  const { code, output } = await showStep(what, () => runQuietly("npm", [...args, ...flags], cwd));
  if (code === 0) return;
  const [got, remedy] =
    code === NOT_FOUND
      ? ["npm is not installed", "install it"]
      : [npmFailure(output), "check the network"];
  throw new LaunchError(`${what}: failed: ${got}; ${remedy}, then run the same command again`);
}

/**
 * @param {readonly string[]} args
 * @param {string} cwd
 */
export async function untar(args, cwd) {
  const { code, output } = await runQuietly("tar", args, cwd);
  if (code !== 0) throw new LaunchError(`tar ${args.join(" ")} failed: ${output.trim()}`);
}

/**
 * @typedef {object} PackageFiles
 * @property {string} spec `name@version`
 * @property {readonly string[]} files paths inside the package
 * @property {string} folder name of their folder in the cache
 * @property {string} what for the progress line
 * @property {(folder: string) => Promise<void>} [prepare] unpacks the files further
 */

/** @param {PackageFiles} wanted */
async function fetchInto({ spec, files, folder, what, prepare }) {
  // A folder of the cache, so that the rename stays on one file system; renamed only when complete.
  const temporary = mkdtempSync(join(cacheFolder(), "tmp-"));
  try {
    await npm(`Fetching ${what}`, ["pack", spec, "--pack-destination", temporary], temporary);
    const tarball = readdirSync(temporary).find((name) => name.endsWith(".tgz"));
    if (tarball === undefined) throw new LaunchError(`${what}: npm pack ${spec} left no tarball`);
    const members = files.map((file) => `package/${file}`);
    await untar(["-xzf", tarball, "--strip-components=1", ...members], temporary);
    rmSync(join(temporary, tarball));
    await prepare?.(temporary);
    renameSync(temporary, join(cacheFolder(), folder));
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * The folder with these files, fetched the first time.
 * @param {PackageFiles} wanted
 * @returns {Promise<string>}
 */
export async function packageFiles(wanted) {
  const folder = join(cacheFolder(), wanted.folder);
  if (existsSync(folder)) return folder;
  await withLock(wanted.folder, async () => {
    if (!existsSync(folder)) await fetchInto(wanted);
  });
  return folder;
}
