import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { coresToPin, parseCpuList, threadCpus } from "../../src/device/pinThreadNode.ts";

test.each([
  ["", []],
  ["3", [3]],
  ["0-2,8", [0, 1, 2, 8]],
])("cpu list %j is %j", (text, cores) => {
  expect(parseCpuList(text)).toEqual(cores);
});

test.each([
  ["0-3", "0-7", [0, 1, 2, 3]],
  ["0-3,8-11", "2-9", [2, 3, 8, 9]],
  ["0-7", "0-7", null], // all that there are
  ["0-7", "0-3", null], // the container has this node only
  ["0-3", "8-15", null], // the container has none of the node
  ["0-3", "3-15", null], // one core of it is worse than all others
])("node %j, allowed %j: pinned to %j", (node, allowed, cores) => {
  expect(coresToPin(node, allowed)).toEqual(cores);
});

test("pinThread moves the thread that calls it and no other", async ({ skip }) => {
  const allowed = parseCpuList(threadCpus() ?? "");
  skip(allowed.length < 2, "needs Linux and two cores");
  skip(spawnSync("taskset", ["--version"]).status !== 0, "needs taskset of util-linux");
  const core = allowed.at(-1) ?? 0;
  const module = new URL("../../src/device/pinThreadNode.ts", import.meta.url).href;
  const script = `
    import { parentPort } from "node:worker_threads";
    import { pinThread, threadCpus } from ${JSON.stringify(module)};
    parentPort.postMessage([pinThread([${core}]), threadCpus(), pinThread([99999])]);`;
  const before = threadCpus();
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
  const answer = await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  expect(answer).toEqual([true, String(core), false]);
  expect(threadCpus()).toBe(before);
});
