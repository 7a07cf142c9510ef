/** Collects taps of a forward pass that runs in chunks. */
import type { TapSink } from "../../device/recorder.ts";
import { fromTiles, isTiled, numFeatures } from "../../kernels/activationTiles.ts";
import type { TapRecord } from "./rankHandle.ts";

export class TapCollector {
  readonly #only: readonly string[];
  readonly #chunks = new Map<string, { numColumns: number; parts: Float32Array[] }>();

  /** Keeps taps whose name starts with any of `only`; all when it is empty. */
  constructor(only: readonly string[]) {
    this.#only = only;
  }

  readonly sink: TapSink = (name, tensor, bytes, live) => {
    if (this.#only.length > 0 && !this.#only.some((prefix) => name.startsWith(prefix))) return;
    const numColumns = numFeatures(tensor);
    const known = this.#chunks.get(name) ?? { numColumns, parts: [] };
    const { buffer } = bytes.slice();
    if (isTiled(tensor)) {
      const rows = fromTiles(new Uint16Array(buffer), live.numTokens, numColumns);
      known.parts.push(new Float32Array(new Float16Array(rows.buffer)));
    } else {
      known.parts.push(new Float32Array(buffer));
    }
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
