/** `verify`: the same prompt on one device and on the layout, compared tap by tap. */
import type { Command } from "commander";
import type { VerifyReport } from "../runtime/verify.ts";
import type { CommandContext } from "./context.ts";
import {
  addJsonFlag,
  addModelFlags,
  addPromptFlags,
  flag,
  type JsonFlag,
  type ModelFlags,
  type PromptFlags,
} from "./flags.ts";
import { layoutAsJson } from "./generateReport.ts";
import { ensureAdapter } from "./launcher/softwareGpu.ts";
import { showLoading } from "./loadProgress.ts";
import { DEMO_TP_SIZE, engineArgs, givenPrompt } from "./modelArgs.ts";
import { encodePrompt } from "./promptIds.ts";
import { formatTable } from "./table.ts";
import { positiveNumber } from "./values.ts";

interface VerifyFlags extends ModelFlags, PromptFlags, JsonFlag {
  readonly rtol?: number;
}

const DEFAULT_PROMPT = "Once upon a time there was a king who had three daughters";

/** Adds the command to the program. */
export function addVerify(program: Command, context: CommandContext): void {
  const command = program
    .command("verify")
    .summary("compare a layout with a single device")
    .description(
      "Runs a prompt on one device and on the layout, compares every tap (attention, MLP, residual, logits), and names the first layer, rank and collective that diverges; exit code 1 then.",
    )
    .argument("[prompt]", `the text to run (default: "${DEFAULT_PROMPT}")`);
  addPromptFlags(command);
  command.addOption(
    flag("--rtol <x>", "relative error that still counts as equal", positiveNumber).helpGroup(
      "Comparison:",
    ),
  );
  addModelFlags(command, DEMO_TP_SIZE);
  addJsonFlag(command, "one JSON object on stdout; on stderr nothing but errors");
  command.action(async (text: string | undefined, flags: VerifyFlags) => {
    const prompt = givenPrompt(text, flags) ?? DEFAULT_PROMPT;
    const args = engineArgs(flags, DEMO_TP_SIZE);
    const promptIds = await encodePrompt(args, prompt);
    await ensureAdapter();
    const { verifyLayout } = await import("../runtime/verify.ts");
    const display = showLoading(context.stderr, flags.json === true);
    const options = flags.rtol === undefined ? {} : { rtol: flags.rtol };
    const report = await verifyLayout(args, [...promptIds], options, display.events).finally(
      display.stop,
    );
    const isJson = flags.json === true;
    context.print(isJson ? JSON.stringify(reportAsJson(report)) : formatReport(report));
    context.exitCode = report.ok ? 0 : 1;
  });
}

/** A row for each kind of tap over all layers, then the verdict. */
export function formatReport(report: VerifyReport): string {
  const kinds = Map.groupBy(report.taps, ({ name }) => name.replace(/\d+/g, "*"));
  const columns = [
    { title: "tap" },
    { title: "taps", isFigure: true },
    { title: "max abs error", isFigure: true },
    { title: "max rel error", isFigure: true },
    { title: "where" },
  ];
  const rows = [...kinds].map(([kind, taps]) => {
    const worst = taps.reduce((a, b) => (b.maxRelError > a.maxRelError ? b : a));
    const maxAbsError = Math.max(...taps.map((tap) => tap.maxAbsError));
    const errors = [maxAbsError, worst.maxRelError].map((error) => error.toExponential(2));
    return [kind, String(taps.length), ...errors, worst.name];
  });
  return `${formatTable(columns, rows)}\n${verdict(report)}`;
}

function verdict({ first, numTaps, rtol }: VerifyReport): string {
  return first === null
    ? `ok: ${numTaps} taps agree to ${rtol} of their RMS`
    : `first divergence: ${first.message}`;
}

type Errors = Pick<VerifyReport["taps"][number], "maxAbsError" | "maxRelError">;

function reportAsJson(report: VerifyReport): Record<string, unknown> {
  const { ok, rtol, numTaps, first, taps, layout } = report;
  const errors = ({ maxAbsError, maxRelError }: Errors): object => ({
    max_abs_error: maxAbsError,
    max_rel_error: maxRelError,
  });
  return {
    ok,
    rtol,
    num_taps: numTaps,
    first:
      first === null
        ? null
        : {
            tap: first.tap,
            layer: first.layer,
            rank: first.rank,
            collective: first.collective,
            message: first.message,
            ...errors(first),
          },
    taps: taps.map((tap) => ({ name: tap.name, received: tap.received, ...errors(tap) })),
    layout: layoutAsJson(layout),
  };
}
