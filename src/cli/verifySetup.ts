/** `verify-setup`: can every rank reach every other, how fast, and do they get the same sum? */
import type { Command } from "commander";
import { DEFAULT_ENGINE_ARGS, type EngineArgs } from "../runtime/engineArgs.ts";
import type { SetupReport } from "../runtime/collectiveBench/verifySetup.ts";
import type { CommandContext } from "./context.ts";
import { addAll } from "./flag.ts";
import { addJsonFlag, flag, type JsonFlag, layoutFlags } from "./flags.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { formatFigure, formatTable } from "./table.ts";
import { positiveNumber } from "./values.ts";

interface VerifySetupFlags extends JsonFlag {
  readonly tensorParallelSize?: number;
  readonly pipelineParallelSize?: number;
  readonly devices?: readonly number[];
  readonly executor?: EngineArgs["executor"];
  readonly collectiveTimeout?: number;
}

/** Adds the command to the program. */
export function addVerifySetup(program: Command, context: CommandContext): void {
  const command = program
    .command("verify-setup")
    .summary("check every pair of ranks: reach, latency, bandwidth")
    .description(
      "Sends from every rank of a layout to every other, device to device, shows latency and bandwidth as matrices, then checks an all-reduce of all ranks. Exit code 1 where something fails, with the pair of ranks.",
    );
  addFlags(command);
  addJsonFlag(command, "one JSON object on stdout");
  command.action(async (flags: VerifySetupFlags) => {
    const { tensorParallelSize, pipelineParallelSize, collectiveTimeout } = flags;
    const isGiven = tensorParallelSize !== undefined || pipelineParallelSize !== undefined;
    const defaults = DEFAULT_ENGINE_ARGS;
    const options = {
      worldSize: isGiven ? (tensorParallelSize ?? 1) * (pipelineParallelSize ?? 1) : null,
      devices: flags.devices ?? defaults.devices,
      executor: flags.executor ?? defaults.executor,
      timeoutMs:
        collectiveTimeout === undefined ? defaults.collectiveTimeoutMs : 1000 * collectiveTimeout,
    };
    await ensureAdapter();
    const { verifySetup } = await import("../runtime/collectiveBench/verifySetupNode.ts");
    const { stop } = context;
    const report = await stop.guard(() => verifySetup(options, stop.signal));
    if (flags.json === true) context.print(JSON.stringify(reportAsJson(report)));
    else context.print(formatSetup(report));
    context.exitCode = report.ok ? 0 : 1;
  });
}

function addFlags(command: Command): void {
  addAll(command, "Layout:", [
    ...layoutFlags("1; without --pp a rank for each device, at least 2"),
    flag(
      "--collective-timeout <seconds>",
      `until a rank counts as missing (default: ${DEFAULT_ENGINE_ARGS.collectiveTimeoutMs / 1000})`,
      positiveNumber,
    ),
  ]);
}

export function formatSetup(report: SetupReport): string {
  const { worldSize, devices, smokeBytes, failure } = report;
  const ranks = devices.map(({ rank, deviceIndex, name }) => [
    ...[String(rank), String(deviceIndex), name],
  ]);
  const parts = [
    formatTable([{ title: "rank", isFigure: true }, { title: "device", isFigure: true }, { title: "name" }], ranks), // prettier-ignore
    matrix(report, "latency µs", ({ latencyUs }) => latencyUs),
    matrix(report, "bandwidth GB/s", ({ bandwidthGBps }) => bandwidthGBps),
  ];
  if (sharesDevice(report)) {
    parts.push("Ranks with the same device number share its adapter as virtual devices: their GPU work takes turns."); // prettier-ignore
  }
  parts.push(
    failure === null
      ? `ok: ${worldSize} ranks reach each other; sums of ${smokeBytes.join(", ")} bytes are right on all of them`
      : failureText(failure),
  );
  return parts.join("\n\n");
}

function failureText({ pair, rank, message }: NonNullable<SetupReport["failure"]>): string {
  const what = pair === null ? "failed" : `failed: rank ${pair.from} to rank ${pair.to}`;
  const by = rank === null ? "" : ` (found by rank ${rank})`;
  return `${what}${by}: ${message}`;
}

function sharesDevice({ devices }: SetupReport): boolean {
  return new Set(devices.map(({ deviceIndex }) => deviceIndex)).size < devices.length;
}

/** Senders down, receivers across; from and to the devices' memory. */
function matrix(
  { worldSize, pairs }: SetupReport,
  title: string,
  read: (pair: SetupReport["pairs"][number]) => number,
): string {
  const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
  const rows = ranks.map((from) => {
    const cells = ranks.map((to) => {
      const pair = pairs.find((each) => each.from === from && each.to === to);
      if (from === to) return "-";
      return pair === undefined ? "?" : formatFigure(read(pair));
    });
    return [`from ${from}`, ...cells];
  });
  const columns = ranks.map((to) => ({ title: `to ${to}`, isFigure: true }));
  return formatTable([{ title }, ...columns], rows);
}

function reportAsJson(report: SetupReport): Record<string, unknown> {
  return {
    ok: report.ok,
    ranks: report.worldSize,
    devices: report.devices.map(({ rank, deviceIndex, name }) => ({
      ...{ rank, device: deviceIndex, name },
    })),
    shared_adapter: sharesDevice(report),
    pairs: report.pairs.map(({ from, to, latencyUs, bandwidthGBps }) => ({
      ...{ from, to, latency_us: latencyUs, bandwidth_gb_per_s: bandwidthGBps },
    })),
    checked_sum_bytes: report.smokeBytes,
    failure:
      report.failure === null ? null : { ...report.failure, text: failureText(report.failure) },
  };
}
