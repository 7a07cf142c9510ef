/** Qwen2 and 2.5 (arXiv:2407.10671): biases on q, k and v; a sliding window in the layers that the config names. */
import { type BuildModel, buildDecoder, denseLayer } from "./model.ts";

export const buildQwen2: BuildModel = (parts) =>
  buildDecoder(parts, (index, kvCache) =>
    denseLayer(parts, index, kvCache, parts.config.slidingWindows[index] ?? null),
  );
