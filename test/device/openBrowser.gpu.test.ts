import { create } from "webgpu";
import { expect } from "vitest";
import { AdapterError } from "../../src/common/errors.ts";
import { BrowserOpener } from "../../src/device/openBrowser.ts";
import { nodeShaders } from "../../src/device/openNode.ts";
import { liveRows } from "../../src/device/liveCounts.ts";
import { rmsNorm } from "../../src/kernels/rmsNorm.ts";
import { rmsNormOracle } from "../oracles/rmsNorm.ts";
import { expectClose, randomF32, test, testAdapter } from "../support/gpu.ts";

/** What a page finds at navigator.gpu, here from Dawn. */
const pageGpu = create([`adapter=${testAdapter}`]);

test("the browser's opener lists one adapter and opens several devices on it", async () => {
  const opener = new BrowserOpener(pageGpu, nodeShaders);
  const infos = await opener.list();
  expect(infos).toHaveLength(1);
  expect(infos[0]?.limits.maxComputeInvocationsPerWorkgroup).toBeGreaterThanOrEqual(256);
  const ranks = await Promise.all(
    [0, 1].map((rank) => opener.open({ index: 0, label: `${rank}` })),
  );
  const [x, w] = [randomF32(64, 1), randomF32(32, 2)];
  for (const device of ranks) {
    const [xGpu, weight] = [device.upload(x, [2, 32]), device.upload(w, [32])];
    const out = device.empty([2, 32]);
    await device.run((rec) => {
      rmsNorm(rec, { x: xGpu, weight, out, eps: 1e-6 });
    }, liveRows(2));
    const want = rmsNormOracle(x, w, 1e-6);
    expectClose(await device.read(out), want, { rtol: 1e-5, atol: 1e-6 });
    await device.destroy();
  }
});

test("a page without WebGPU, and a second adapter, are refused with a remedy", async () => {
  const none = new BrowserOpener(undefined, nodeShaders);
  await expect(none.list()).rejects.toThrow(AdapterError);
  await expect(none.list()).rejects.toThrow(/no navigator\.gpu; use a browser with WebGPU/);
  const opener = new BrowserOpener(pageGpu, nodeShaders);
  await expect(opener.open({ index: 1, label: "" })).rejects.toThrow(/a page sees one adapter/);
});
