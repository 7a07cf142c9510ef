/** What the server asks of a loaded model; LoadedModel is one, and a test may bring its own. */
import type { LoadedModel } from "../../runtime/loadModel.ts";

export type ServedModel = Pick<
  LoadedModel,
  "llm" | "codec" | "generation" | "layout" | "numKvBlocks" | "stats" | "shutdown"
> & { readonly executor: Pick<LoadedModel["executor"], "limits" | "shutdown"> };

/** Loads the model once more, on the devices of this replica. */
export type LoadReplica = (replicaIndex: number) => Promise<ServedModel>;
