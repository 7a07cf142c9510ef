/** TANDEM_VISIBLE_DEVICES and the device layer, as whoever starts Tandem meets them. */
import { expect, test } from "vitest";
import { layerProblem } from "../../src/device/deviceLayerNode.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { runCli, startCli } from "./support/spawnCli.ts";

interface ListedDevice {
  readonly index: number;
  readonly name: string;
  readonly uuid: string | null;
  readonly memory_bytes: number | null;
  readonly virtual: boolean;
}

const hasLayer = layerProblem() === undefined;

async function devices(env: Readonly<Record<string, string>>): Promise<readonly ListedDevice[]> {
  const { code, stdout, stderr } = await runCli("devices", "--json", { env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as ListedDevice[];
}

test("one device by its index, then by the UUID that it showed", async ({ skip }) => {
  skip(!hasLayer, "needs the device layer, which is built for linux-x64");
  const [byIndex, ...others] = await devices({
    TANDEM_VISIBLE_DEVICES: String(await testDeviceIndex()),
  });
  expect(others).toEqual([]);
  expect(byIndex).toMatchObject({ index: 0, virtual: false });
  expect(byIndex?.memory_bytes).toBeGreaterThan(2 ** 28);
  const uuid = byIndex?.uuid ?? "";
  expect(uuid).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
  const [byUuid, ...more] = await devices({ TANDEM_VISIBLE_DEVICES: `GPU-${uuid}` });
  expect(more).toEqual([]);
  expect(byUuid).toMatchObject({ index: 0, name: byIndex?.name, uuid });
});

test("Dawn prints nothing of its own where the layer is at work", async ({ skip }) => {
  skip(!hasLayer, "needs the device layer, which is built for linux-x64");
  const { child, result } = startCli("Hi", "--max-tokens", "2", "--tp", "2", "--json");
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  expect((await result).code).toBe(0);
  expect(stderr).toBe(""); // runCli's leaves Dawn's warnings out
});

test.each<[Record<string, string>, RegExp]>([
  [{ TANDEM_VISIBLE_DEVICES: "99" }, /^error: TANDEM_VISIBLE_DEVICES: .* got 99; .*devices/],
  [{ TANDEM_VISIBLE_DEVICES: "0,0" }, /^error: TANDEM_VISIBLE_DEVICES: .*device 0 twice/],
  [{ TANDEM_VISIBLE_DEVICES: "gpu0" }, /^error: TANDEM_VISIBLE_DEVICES: .* got "gpu0"/],
  [{ TANDEM_VISIBLE_DEVICES: "ffff:ff:1f.7" }, /^error: TANDEM_VISIBLE_DEVICES: .* ffff:ff:1f.7/],
  [{ TANDEM_DEVICE_LAYER: "maybe" }, /^error: TANDEM_DEVICE_LAYER: .* auto, on, off, got maybe/],
  [
    { TANDEM_DEVICE_LAYER: "off", TANDEM_VISIBLE_DEVICES: "3b:00.0" },
    /^error: TANDEM_VISIBLE_DEVICES: .*TANDEM_DEVICE_LAYER=off.* got 3b:00.0; name devices by index/,
  ],
])("%j: one line and exit code 2", async (env, message) => {
  for (const args of [["devices"], ["Hi", "--max-tokens", "2"]]) {
    const { code, stdout, stderr } = await runCli(...args, { env });
    expect(stderr.trim().split("\n").at(-1)).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  }
});
