/**
 * Keeps a worker thread, and the threads that its driver starts, on the cores of its GPU's NUMA node.
 * Linux then gives it memory of that node, too: pages come from the node of the core that first
 * touches them. Node has no call for this; `taskset` of util-linux moves any thread of the same user.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";

/** With fewer cores than this on the node, a thread and its driver's are better off anywhere. */
const LEAST_CORES = 2;

/** `0-2,8` as [0, 1, 2, 8]. */
export function parseCpuList(text: string): number[] {
  return text
    .split(",")
    .filter(Boolean)
    .flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/**
 * The cores to pin to: those of the node that the process may use (a container may have few of them).
 * null where that would be no choice, or a bad one.
 */
export function coresToPin(numaCpus: string, allowedCpus: string): readonly number[] | null {
  const allowed = parseCpuList(allowedCpus);
  const onNode = new Set(parseCpuList(numaCpus));
  const cores = allowed.filter((core) => onNode.has(core));
  return cores.length < LEAST_CORES || cores.length === allowed.length ? null : cores;
}

/** The cores that the calling thread may run on, as `0-3,8`; null where the system does not say. */
export function threadCpus(): string | null {
  try {
    // Read in this thread, not in libuv's pool, so that thread-self is the caller.
    const status = readFileSync("/proc/thread-self/status", "utf8");
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? null;
  } catch {
    return null; // not Linux
  }
}

/** Pins the calling thread; false where the system does not let it, which costs speed only. */
export function pinThread(cores: readonly number[]): boolean {
  try {
    const threadId = basename(readlinkSync("/proc/thread-self"));
    const { status } = spawnSync("taskset", ["-cp", cores.join(","), threadId]);
    return status === 0;
  } catch {
    return false;
  }
}
