/** Collects taps of a forward pass that runs in chunks. */
import type { TapSink } from "../../device/recorder.ts";
import type { TapRecord } from "./rankHandle.ts";

export class TapCollector {
  readonly #only: readonly string[];
  readonly #chunks = new Map<string, { numColumns: number; parts: Float32Array[] }>();

  /** Keeps taps whose name starts with any of `only`; all when it is empty. */
  constructor(only: readonly string[]) {
    this.#only = only;
  }

  readonly sink: TapSink = (name, tensor, bytes) => {
    if (this.#only.length > 0 && !this.#only.some((prefix) => name.startsWith(prefix))) return;
    const known = this.#chunks.get(name) ?? { numColumns: tensor.shape.at(-1) ?? 0, parts: [] };
    const { buffer } = bytes.slice();
    const isHalf = tensor.dtype === "f16";
    known.parts.push(new Float32Array(isHalf ? new Float16Array(buffer) : buffer));
    this.#chunks.set(name, known);
  };

  /** In the order of the forward pass, chunks joined. */
  records(): TapRecord[] {
    return [...this.#chunks].map(([name, { numColumns, parts }]) => {
      const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        data.set(part, at);
        at += part.length;
      }
      return { name, numColumns, data };
    });
  }
}
