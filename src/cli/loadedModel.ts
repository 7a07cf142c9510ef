/** The models that commands load: always shut down, whatever happens in between. */
import type { EngineArgs } from "../runtime/engineArgs.ts";
import type { FirstRequest, LoadedModel } from "../runtime/loadModel.ts";
import type { CommandContext } from "./context.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";

/** Loads a model with progress on stderr, hands it to `use`, and shuts it down; `first` is checked before. */
export async function withModel<T>(
  args: EngineArgs,
  first: FirstRequest,
  isQuiet: boolean,
  { stop, stderr }: CommandContext,
  use: (model: LoadedModel, loadMs: number) => Promise<T>,
): Promise<T> {
  await ensureAdapter();
  // Imported only now, so that help and usage errors come without loading Dawn.
  const { loadModel } = await import("../runtime/loadModel.ts");
  const display = showLoading(stderr, isQuiet);
  const startMs = performance.now();
  const model = await loadModel(args, display.events, first).finally(display.stop);
  return await stop.guard(async () => {
    try {
      return await use(model, performance.now() - startMs);
    } finally {
      await model.shutdown();
    }
  });
}
