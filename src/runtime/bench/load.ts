/** Start-up by stage: from a model's files to its first token, beside what reading the files alone takes. */
import { nodeFiles } from "../../../models/weights/filesNode.ts";
import { openWeights } from "../../../models/weights/open.ts";
import { median } from "../../common/math.ts";
import type { EngineArgs, LoadEvents } from "../engineArgs.ts";
import { listDevices } from "../devices.ts";
import { type LoadedModel, loadModel } from "../loadModel.ts";
import { openModel } from "../openModelNode.ts";
import { measureCeilings } from "./ceilings.ts";
import { greedy, Prompts } from "./prompts.ts";
import { type BenchReport, type Fields, layoutSettings } from "./report.ts";
import { versions } from "./versionsNode.ts";

const COLUMNS = [
  { key: "run", title: "run" },
  { key: "files_ms", title: "files ms" },
  { key: "adapters_ms", title: "adapters" },
  { key: "devices_ms", title: "devices" },
  { key: "weights_ms", title: "weights" },
  { key: "weights_gb_per_s", title: "GB/s" },
  { key: "read_gb_per_s", title: "reading alone" },
  { key: "pipelines_ms", title: "pipelines" },
  { key: "first_token_ms", title: "first token" },
  { key: "total_ms", title: "in all" },
] as const;

/** Reads under way at once, as the loader's. */
const NUM_READS = 8;
const READ_BYTES = 8 << 20;

/** Loads the model `repeats` times and generates a token each time; the first run may find cold files. */
export async function benchLoad(
  args: EngineArgs,
  { repeats, promptLength }: { readonly repeats: number; readonly promptLength: number },
  events: LoadEvents = {},
): Promise<BenchReport> {
  const rows: Fields[] = [];
  let model: LoadedModel | undefined;
  for (let run = 1; run <= repeats; run++) {
    const begin = performance.now();
    model = await loadModel(args, run === 1 ? events : {});
    try {
      rows.push(await measure(model, run, promptLength, begin));
    } finally {
      await model.shutdown();
    }
  }
  const readGBps = await readAlone(args);
  const layout = model?.layout ?? null;
  const index = layout?.ranks[0]?.deviceIndex ?? 0;
  const adapter = (await listDevices())[index];
  return {
    benchmark: "load",
    model: args.model,
    settings: layout === null ? {} : layoutSettings(args, layout, adapter, versions()),
    ceilings: await measureCeilings(index, args.disableRobustness),
    columns: COLUMNS,
    rows: rows.map((row) => ({ ...row, read_gb_per_s: readGBps })),
    kernels: [],
    layout,
  };
}

async function measure(
  model: LoadedModel,
  run: number,
  promptLength: number,
  begin: number,
): Promise<Fields> {
  const { filesMs, adaptersMs, devicesMs, weightsMs, weightBytes, pipelinesMs } = model.loadTimings;
  const loaded = performance.now();
  const prompt = new Prompts(model.config.vocabSize).next(promptLength);
  await model.llm.generate(prompt, greedy(1)).collect();
  return {
    run,
    files_ms: filesMs,
    adapters_ms: adaptersMs,
    devices_ms: devicesMs,
    weights_ms: weightsMs,
    weight_bytes: weightBytes,
    weights_gb_per_s: weightBytes / (weightsMs * 1e6),
    pipelines_ms: pipelinesMs,
    first_token_ms: performance.now() - loaded,
    total_ms: performance.now() - begin,
    prompt_len: promptLength,
  };
}

/** Bytes a second, 1e9, of reading every tensor into plain memory, as many at once as the loader; null for dummies. */
async function readAlone(args: EngineArgs): Promise<number | null> {
  const { spec } = await openModel(args);
  const source = await openWeights(spec, nodeFiles);
  const { sliceReads } = source;
  if (sliceReads === undefined) return null;
  const rates: number[] = [];
  for (let i = 0; i < 3; i++) {
    const reads = source.names.flatMap((name) => [
      ...sliceReads.call(source, name, {}, READ_BYTES),
    ]);
    const numBytes = reads.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const begin = performance.now();
    const reader = async (): Promise<void> => {
      const memory = new Uint8Array(READ_BYTES);
      for (let read = reads.pop(); read !== undefined; read = reads.pop()) {
        await read.into(memory.subarray(0, read.sizeBytes));
      }
    };
    await Promise.all(Array.from({ length: NUM_READS }, reader));
    rates.push(numBytes / ((performance.now() - begin) * 1e6));
  }
  return median(rates);
}
