/** Opens a model's weights, whatever their format: a checkpoint's files, or a formula. */
import type { WeightDType } from "../../src/common/dtype.ts";
import type { ModelConfig } from "../config.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { DummyWeights } from "./dummy.ts";
import type { FileSource } from "./files.ts";
import { checkTensors } from "./tensors.ts";
import type { WeightSource } from "./weightSource.ts";

/** What is loaded: a directory's files, or dummies of a config's shapes. */
export interface WeightsOrigin {
  readonly dir: string | null;
  readonly config: ModelConfig;
  readonly loadFormat: "auto" | "dummy";
  readonly dtype: WeightDType | "auto";
}

/** Opens and checks the source of all weights; reads headers only. */
export async function openWeights(origin: WeightsOrigin, files: FileSource): Promise<WeightSource> {
  const { dir, config, loadFormat, dtype } = origin;
  if (loadFormat === "dummy" || dir === null) {
    return new DummyWeights(config, dtype === "auto" ? (config.dtype ?? "bf16") : dtype);
  }
  const checkpoint = await openCheckpoint(files, dir);
  checkTensors(config, checkpoint);
  return checkpoint;
}
