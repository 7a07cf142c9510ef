/** Mistral (arXiv:2310.06825): Llama with a sliding window where the config gives one. */
import { type BuildModel, buildDecoder, denseLayer } from "./model.ts";

export const buildMistral: BuildModel = (parts) =>
  buildDecoder(parts, (index, kvCache) =>
    denseLayer(parts, index, kvCache, parts.config.slidingWindows[index] ?? null),
  );
