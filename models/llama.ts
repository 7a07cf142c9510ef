/** Llama 2 and 3.x (arXiv:2307.09288, arXiv:2407.21783): full attention in every layer. */
import { type BuildModel, buildDecoder, denseLayer } from "./model.ts";

export const buildLlama: BuildModel = (parts) =>
  buildDecoder(parts, (index, kvCache) => denseLayer(parts, index, kvCache, null));
