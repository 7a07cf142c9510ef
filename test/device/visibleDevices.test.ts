import { expect, test } from "vitest";
import { AdapterError } from "../../src/common/errors.ts";
import type { AdapterName } from "../../src/device/physicalDevice.ts";
import { needsIdentity, visibleAdapters } from "../../src/device/visibleDevices.ts";

function adapter(index: number, uuid: string, pciAddress: string | null): AdapterName {
  const physical = { uuid, pciAddress, memoryBytes: 1, kind: "discrete" as const, place: null };
  return { selector: `GPU ${index}`, name: "GPU", physical };
}

const SOFTWARE_UUID = "6d657361-3235-2e30-2e37-2d327e627000";
const ADAPTERS = [
  adapter(0, "aaaaaaaa-0000-0000-0000-000000000001", "0000:3b:00.0"),
  adapter(1, "aaaaaaaa-0000-0000-0000-000000000002", "0001:3b:00.0"),
  adapter(2, SOFTWARE_UUID, null),
  adapter(3, SOFTWARE_UUID, null),
];
const PLAIN = ADAPTERS.map((each) => ({ ...each, physical: null }));

test.each([
  [undefined, [0, 1, 2, 3]],
  ["", [0, 1, 2, 3]],
  [" ", [0, 1, 2, 3]],
  ["1", [1]],
  ["3,0", [3, 0]],
  [" 2 , 1 ", [2, 1]],
  ["0000:3b:00.0", [0]],
  ["3b:00.0", [0]],
  ["00000000:3B:00.0", [0]],
  ["0001:3b:00.0,0", [1, 0]],
  ["aaaaaaaa-0000-0000-0000-000000000002", [1]],
  ["GPU-AAAAAAAA-0000-0000-0000-000000000002,2", [1, 2]],
  ["aaaaaaaa000000000000000000000001", [0]],
])("%j leaves devices %j", (value, indices) => {
  const expected = indices.map((index) => ADAPTERS[index]);
  expect(visibleAdapters(value, ADAPTERS, undefined)).toEqual(expected);
});

test.each([
  ["4", /expected an index from 0 to 3, got 4; .*devices` lists them$/],
  ["x", /expected device indices, UUIDs or PCI addresses .*, got "x"/],
  ["0,", /got ""/],
  ["-1", /got "-1"/],
  ["0.5", /got "0.5"/],
  ["0,1,0", /expected each device once, got device 0 twice, as 0 and 0; .*--tp or --pp/],
  ["3b:00.0,0", /expected each device once, got device 0 twice, as 3b:00.0 and 0/],
  ["0000:3c:00.0", /expected a device of this machine, got 0000:3c:00.0/],
  ["bbbbbbbb-0000-0000-0000-000000000001", /expected a device of this machine, got bbbbbbbb/],
  [SOFTWARE_UUID, /expected a name of one device, .* which devices 2 and 3 have; .* by index$/],
])("%j is refused", (value, message) => {
  const look = (): unknown => visibleAdapters(value, ADAPTERS, undefined);
  expect(look).toThrow(AdapterError);
  expect(look).toThrow(message);
});

test("without the device layer indices work, and the rest says why it does not", () => {
  const problem = "is built for linux-x64, not darwin-arm64";
  expect(visibleAdapters("1,0", PLAIN, problem)).toEqual([PLAIN[1], PLAIN[0]]);
  expect(() => visibleAdapters("0,3b:00.0", PLAIN, problem)).toThrow(
    /^TANDEM_VISIBLE_DEVICES: .* need the device layer, which is built for linux-x64, not darwin-arm64, got 3b:00.0; name devices by index$/,
  );
});

test.each([
  [undefined, false],
  ["0,1", false],
  ["0,3b:00.0", true],
  [SOFTWARE_UUID, true],
])("%j takes the device layer: %s", (value, expected) => {
  expect(needsIdentity(value)).toBe(expected);
});
