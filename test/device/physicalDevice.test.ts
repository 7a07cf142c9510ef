import { expect, test } from "vitest";
import {
  adaptersInMessage,
  ambiguousNames,
  parseAdapterName,
} from "../../src/device/physicalDevice.ts";

const UUID = "6f5c1a2b-0001-4002-8003-0123456789ab";

test("a tagged name gives the driver's name and the GPU behind it", () => {
  const selector = `NVIDIA H200 [tandem 3 uuid=${UUID} pci=0000:9b:00.0 heap=150754820096 type=discrete]`;
  expect(parseAdapterName(selector)).toEqual({
    selector,
    name: "NVIDIA H200",
    physical: {
      uuid: UUID,
      pciAddress: "0000:9b:00.0",
      memoryBytes: 150_754_820_096,
      kind: "discrete",
      place: null,
    },
  });
});

test("a device that is not on the bus, in a list that could not be read", () => {
  const tag = `[tandem -1 uuid=${UUID} pci=- heap=0 type=cpu]`;
  const { name, physical } = parseAdapterName(`llvmpipe (LLVM 15.0.6, 256 bits) ${tag}`);
  expect(name).toBe("llvmpipe (LLVM 15.0.6, 256 bits)");
  expect(physical).toMatchObject({ pciAddress: null, kind: "cpu", memoryBytes: 0 });
});

test.each([
  "NVIDIA H200",
  "Apple M2 [tandem]",
  `[tandem 1 uuid=${UUID} pci=- heap=1 type=cpu] GPU`,
])("%s: no tag of ours", (selector) => {
  expect(parseAdapterName(selector)).toEqual({ selector, name: selector, physical: null });
});

test("adapters in Dawn's message, without the backends that Tandem does not run on", () => {
  const message = [
    "no suitable backends found",
    "Available adapters:",
    " * backend: 'vulkan', name: 'llvmpipe (LLVM 15.0.6, 256 bits)'",
    " * backend: 'null', name: 'Null backend'",
    " * backend: 'opengles', name: 'ANGLE'",
    " * backend: 'metal', name: 'Apple M2'",
  ].join("\n");
  expect(adaptersInMessage(message)).toEqual(["llvmpipe (LLVM 15.0.6, 256 bits)", "Apple M2"]);
  expect(adaptersInMessage("no suitable backends found")).toEqual([]);
});

test.each([
  [["A", "B"], []],
  [
    ["H200", "H200", "H200"],
    [1, 2],
  ],
  [["RTX 4070 Ti", "RTX 4070"], [1]], // "RTX 4070" would open the Ti
  [["RTX 4070", "RTX 4070 Ti"], []],
  [["H200 [tandem 1 x]", "H200 [tandem 10 x]"], []],
])("%j: Dawn would open another adapter for positions %j", (names, positions) => {
  expect(ambiguousNames(names)).toEqual(positions);
});
