/** `verify-setup` in Node: the ranks of a layout as a run would start them. */
import { messageOf } from "../../common/errors.ts";
import { NodeOpener } from "../../device/openNode.ts";
import type { ExecutorKind } from "../engineArgs.ts";
import { bestKind, dealDevices } from "../layout.ts";
import { DEFAULT_PAIR_OPTIONS, type PairReport } from "./pairs.ts";
import type { UsedDevice } from "./rankJob.ts";
import { runWorld } from "./ranksNode.ts";
import { mergePairReports, type SetupReport } from "./verifySetup.ts";

export interface SetupOptions {
  /** null: a rank for each device, at least two. */
  readonly worldSize: number | null;
  /** As in EngineArgs. */
  readonly devices: readonly number[] | null;
  readonly executor: ExecutorKind;
  readonly timeoutMs: number;
}

/** A failure is part of the report; only what cannot be started is thrown. */
export async function verifySetup(
  options: SetupOptions,
  signal?: AbortSignal,
): Promise<SetupReport> {
  const adapters = await new NodeOpener().list();
  const numDevices = (options.devices ?? bestKind(adapters)).length;
  const worldSize = options.worldSize ?? Math.max(2, numDevices);
  const dealt = dealDevices(options.devices, adapters, worldSize);
  const seats = dealt.map((deviceIndex, rank) => ({ rank, deviceIndex }));
  const devices: UsedDevice[] = [];
  const reports: PairReport[] = [];
  let died: string | undefined;
  const transport = options.executor === "inProcess" ? "loopback" : "sharedMemory";
  const pairOptions = { ...DEFAULT_PAIR_OPTIONS, timeoutMs: options.timeoutMs };
  const job = { kind: "pairs", options: pairOptions } as const;
  await runWorld({ seats, transport, job, signal }, (message) => {
    if (message.kind === "devices") devices.push(...message.devices);
    else if (message.kind === "pairs") reports.push(message.report);
  }).catch((error: unknown) => {
    signal?.throwIfAborted();
    died = messageOf(error);
  });
  return mergePairReports(worldSize, devices, reports, died);
}
