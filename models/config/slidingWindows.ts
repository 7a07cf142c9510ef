/**
 * Which layers attend through a sliding window, and how wide it is. The rules are those of
 * transformers: a window of W lets token i see tokens i - W + 1 to i, itself included.
 */
import type { Architecture } from "../config.ts";
import type { Fields } from "./fields.ts";

/** Mistral's and Qwen's default in transformers; a Mistral without a window says null. */
const DEFAULT_WINDOW = 4096;
const DEFAULT_MAX_WINDOW_LAYERS = 28;

/** One entry a layer: its window in tokens, or null for full attention. */
export function parseSlidingWindows(
  architecture: Architecture,
  config: Fields,
  numLayers: number,
  isWindowNull: boolean,
): readonly (number | null)[] {
  const full = Array.from({ length: numLayers }, () => null);
  const isQwen = architecture === "Qwen2ForCausalLM" || architecture === "Qwen3ForCausalLM";
  if (architecture === "LlamaForCausalLM" || isWindowNull) return full;
  if (isQwen && !config.boolean("use_sliding_window", false)) return full;

  const window = config.size("sliding_window", DEFAULT_WINDOW);
  const types = config.strings("layer_types");
  if (types.length > 0) return byLayerType(config, types, window, numLayers);
  if (!isQwen) return full.map(() => window);
  const firstLayer = config.integer("max_window_layers", 0, DEFAULT_MAX_WINDOW_LAYERS);
  return full.map((_, layer) => (layer >= firstLayer ? window : null));
}

function byLayerType(
  config: Fields,
  types: readonly string[],
  window: number,
  numLayers: number,
): readonly (number | null)[] {
  if (types.length !== numLayers) {
    config.fail("layer_types", `${numLayers} entries, one a layer (num_hidden_layers)`);
  }
  return types.map((type) => {
    if (type === "sliding_attention") return window;
    if (type === "full_attention") return null;
    return config.fail("layer_types", "full_attention or sliding_attention for each layer");
  });
}
