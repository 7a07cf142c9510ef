import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { layerReason, type Machine } from "../../src/device/deviceLayerNode.ts";

const native = new URL("../../native/", import.meta.url);
const library = new URL("linux-x64/libVkLayer_tandem_devices.so", native);

const plain: Machine = { numGpus: 1, numNumaNodes: 1, drivers: ["/etc/nvidia_icd.json"] };
const PCI = "0000:3b:00.0";

test.each<[Record<string, string>, Partial<Machine>, string | null]>([
  [{}, {}, null],
  [{}, { numGpus: 0, numNumaNodes: 2 }, null],
  [{}, { numGpus: 2 }, "2 GPUs"],
  [{}, { numNumaNodes: 2 }, "2 NUMA nodes"],
  [{}, { drivers: ["/a/lvp_icd.x86_64.json"] }, "lavapipe"],
  [{ TANDEM_VISIBLE_DEVICES: "0" }, {}, null],
  [{ TANDEM_VISIBLE_DEVICES: PCI }, {}, "TANDEM_VISIBLE_DEVICES"],
  [{ TANDEM_DEVICE_LAYER: "on" }, {}, "TANDEM_DEVICE_LAYER=on"],
  [{ TANDEM_DEVICE_LAYER: "", TANDEM_VISIBLE_DEVICES: "" }, {}, null],
  [{ TANDEM_DEVICE_LAYER: "off", TANDEM_VISIBLE_DEVICES: PCI }, { numGpus: 8 }, null],
])("%j on a machine with %j: %j", (env, machine, reason) => {
  expect(layerReason(env, { ...plain, ...machine })).toBe(reason);
});

test("a wrong value of TANDEM_DEVICE_LAYER is refused", () => {
  expect(() => layerReason({ TANDEM_DEVICE_LAYER: "yes" }, plain)).toThrow(
    "TANDEM_DEVICE_LAYER: expected one of auto, on, off, got yes",
  );
});

test("the prebuilt layer is of this source, small, and asks for an old glibc only", () => {
  const source = readFileSync(new URL("deviceLayer.c", native));
  const binary = readFileSync(library, "latin1");
  const hash = createHash("sha256").update(source).digest("hex");
  expect(binary.includes(`tandem source sha256 ${hash}`), "run native/build.sh").toBe(true);
  expect(statSync(library).size).toBeLessThan(64 * 1024);
  const versions = new Set(binary.match(/GLIBC_[\d.]+/g));
  expect([...versions]).toEqual(["GLIBC_2.2.5"]);
});

test("the manifest names the layer and the library beside it", () => {
  const text = readFileSync(new URL("linux-x64/VkLayer_tandem_devices.json", native), "utf8");
  const { layer } = JSON.parse(text) as { layer: Record<string, string> };
  expect(layer["name"]).toBe("VK_LAYER_TANDEM_devices");
  expect(layer["library_path"]).toBe("./libVkLayer_tandem_devices.so");
});
