/** Finds a model on this machine: a directory, or a built-in shape for dummy weights. */
import { stat } from "node:fs/promises";
import { loadConfig } from "../../models/config.ts";
import { BUILTIN_NAMES, builtinConfig } from "../../models/config/builtin.ts";
import type { GenerationDefaults } from "../../models/config/generation.ts";
import { nodeFiles } from "../../models/weights/filesNode.ts";
import { openWeights } from "../../models/weights/open.ts";
import type { WeightDType } from "../common/dtype.ts";
import { ConfigError } from "../common/errors.ts";
import type { EngineArgs } from "./engineArgs.ts";
import type { ModelSpec } from "./rankSpec.ts";

export interface OpenedModel {
  readonly spec: ModelSpec;
  /** The dtype that the weights are stored in. */
  readonly storedDType: WeightDType;
  readonly generation: GenerationDefaults;
}

const NO_DEFAULTS: GenerationDefaults = {
  doSample: null,
  temperature: null,
  topK: null,
  topP: null,
  minP: null,
  repetitionPenalty: null,
};

/** Reads config.json and all weight headers, and checks one against the other; no weight is read. */
export async function openModel(args: EngineArgs): Promise<OpenedModel> {
  const { model, loadFormat, dtype } = args;
  const isDirectory = await stat(model).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isDirectory) return openBuiltin(args);
  const { config, generation } = await loadConfig(nodeFiles, model);
  const spec: ModelSpec = { dir: model, config, loadFormat, dtype };
  const source = await openWeights(spec, nodeFiles);
  const { dtype: storedDType } = source.info("model.layers.0.self_attn.q_proj.weight");
  return { spec, storedDType, generation };
}

function openBuiltin({ model, loadFormat, dtype }: EngineArgs): OpenedModel {
  const isKnown = BUILTIN_NAMES.some((name) => name === model);
  if (!isKnown || loadFormat !== "dummy") {
    throw new ConfigError({
      what: "--model",
      expected: isKnown
        ? "--load-format dummy with a built-in shape, as it has no weights"
        : `a directory, or with --load-format dummy one of ${BUILTIN_NAMES.join(", ")}`,
      got: model,
    });
  }
  const config = builtinConfig(model);
  const spec: ModelSpec = { dir: null, config, loadFormat, dtype };
  const storedDType = dtype === "auto" ? (config.dtype ?? "bf16") : dtype;
  return { spec, storedDType, generation: NO_DEFAULTS };
}
