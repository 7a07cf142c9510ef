/** Qwen3, dense (arXiv:2505.09388): RMSNorm on each head of q and k before RoPE, and no biases. */
import { type BuildModel, buildDecoder, denseLayer } from "./model.ts";

export const buildQwen3: BuildModel = (parts) =>
  buildDecoder(parts, (index, kvCache) =>
    denseLayer(parts, index, kvCache, parts.config.slidingWindows[index] ?? null),
  );
