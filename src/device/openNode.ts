/** Devices in Node, through Dawn (npm `webgpu`). */
import { readFileSync } from "node:fs";
import { create, globals } from "webgpu";
import { AdapterError, messageOf } from "../common/errors.ts";
import { type AdapterInfo, describeAdapter, deviceDescriptor } from "./adapterInfo.ts";
import { Device, type ShaderLibrary } from "./device.ts";
import type { DeviceOpener, OpenOptions } from "./opener.ts";

/** Dawn crashes when the object from create() is collected while a device of it lives. */
const instances: GPU[] = [];

const ENABLED_TOGGLES = [
  "allow_unsafe_apis", // subgroup matrices
  "disable_workgroup_init", // kernels never read unwritten workgroup memory; SwiftShader compiles 3x faster
  "vulkan_enable_f16_on_nvidia",
];
const DISABLED_TOGGLES = ["timestamp_quantization"];

/** Names on CPU implementations, so that hardware sorts first before any adapter is opened. */
const SOFTWARE_NAMES = /swiftshader|llvmpipe|lavapipe|microsoft basic render/i;
/** The slowest: last of all. */
const SLOWEST_NAME = /swiftshader/i;

/** WGSL files of this package, read when first asked for. */
export const nodeShaders: ShaderLibrary = (path) =>
  readFileSync(new URL(`../../shaders/${path}`, import.meta.url), "utf8");

/** Sorts hardware first, then lavapipe, then SwiftShader. */
function slowness(name: string): number {
  return Number(SOFTWARE_NAMES.test(name)) + Number(SLOWEST_NAME.test(name));
}

function createInstance(name: string, disableRobustness: boolean): GPU {
  Object.assign(globalThis, globals);
  const enabled = disableRobustness ? [...ENABLED_TOGGLES, "disable_robustness"] : ENABLED_TOGGLES;
  const instance = create([
    `adapter=${name}`,
    `enable-dawn-features=${enabled.join(",")}`,
    `disable-dawn-features=${DISABLED_TOGGLES.join(",")}`,
  ]);
  instances.push(instance);
  return instance;
}

/** Dawn has no list: asking for an adapter that cannot exist makes it name all that do. */
async function adapterNames(): Promise<string[]> {
  try {
    await create(["adapter=no adapter has this name"]).requestAdapter();
    return [];
  } catch (error) {
    const names = [...messageOf(error).matchAll(/backend: '(\w+)', name: '([^']*)'/g)]
      .filter(([, backend]) => backend !== "null" && backend !== "opengl" && backend !== "opengles")
      .map(([, , name]) => name ?? "");
    return names.sort((a, b) => slowness(a) - slowness(b));
  }
}

async function requestAdapter(name: string, disableRobustness: boolean): Promise<GPUAdapter> {
  const adapter = await createInstance(name, disableRobustness).requestAdapter();
  if (adapter !== null) return adapter;
  throw new AdapterError({
    what: `device ${name}`,
    expected: "an adapter that Dawn accepts",
    got: "none",
    remedy: "update its Vulkan driver",
  });
}

export class NodeOpener implements DeviceOpener {
  async list(): Promise<readonly AdapterInfo[]> {
    const infos: AdapterInfo[] = [];
    for (const name of await adapterNames()) {
      const adapter = await createInstance(name, false)
        .requestAdapter()
        .catch(() => null);
      if (adapter !== null) infos.push(describeAdapter(adapter, name));
    }
    return infos;
  }

  async open({ index, label, disableRobustness = false }: OpenOptions): Promise<Device> {
    const names = await adapterNames();
    const name = names[index];
    if (name === undefined) {
      throw new AdapterError({
        what: "device",
        expected: names.length === 0 ? "an adapter" : `an index from 0 to ${names.length - 1}`,
        got: index,
        remedy: "`node run.ts devices` lists them",
      });
    }
    const unchecked = disableRobustness && !SOFTWARE_NAMES.test(name);
    const adapter = await requestAdapter(name, unchecked); // an adapter gives one device only
    const info = describeAdapter(adapter, name);
    return new Device(
      await adapter.requestDevice(deviceDescriptor(info, label)),
      info,
      nodeShaders,
    );
  }
}
