/** Devices in a page or a Web Worker. A page sees one adapter; several devices on it are virtual ranks. */
import { AdapterError } from "../common/errors.ts";
import { type AdapterInfo, describeAdapter, deviceDescriptor } from "./adapterInfo.ts";
import { Device, type ShaderLibrary } from "./device.ts";
import type { DeviceOpener, OpenOptions } from "./opener.ts";

export class BrowserOpener implements DeviceOpener {
  readonly #gpu: GPU | undefined;
  readonly #shaders: ShaderLibrary;

  /** `gpu` is navigator.gpu; undefined where the browser has no WebGPU. */
  constructor(gpu: GPU | undefined, shaders: ShaderLibrary) {
    this.#gpu = gpu;
    this.#shaders = shaders;
  }

  async list(): Promise<readonly AdapterInfo[]> {
    const adapter = await this.#requestAdapter();
    return [this.#describe(adapter)];
  }

  async open({ index, label }: OpenOptions): Promise<Device> {
    if (index !== 0) {
      throw new AdapterError({
        what: "device",
        expected: "0, as a page sees one adapter",
        got: index,
        remedy: "use device 0 for every rank: ranks then share it as virtual devices",
      });
    }
    const adapter = await this.#requestAdapter(); // an adapter gives one device only
    const info = this.#describe(adapter);
    return new Device(
      await adapter.requestDevice(deviceDescriptor(info, label)),
      info,
      this.#shaders,
    );
  }

  #describe(adapter: GPUAdapter): AdapterInfo {
    const { vendor, architecture, description } = adapter.info;
    const name = description === "" ? `${vendor} ${architecture}`.trim() : description;
    return describeAdapter(adapter, name);
  }

  async #requestAdapter(): Promise<GPUAdapter> {
    const adapter = await this.#gpu?.requestAdapter({ powerPreference: "high-performance" });
    if (adapter) return adapter;
    throw new AdapterError({
      what: "WebGPU",
      expected: "an adapter",
      got: this.#gpu === undefined ? "no navigator.gpu" : "none",
      remedy: "use a browser with WebGPU, over https or localhost, with the GPU not blocked",
    });
  }
}
