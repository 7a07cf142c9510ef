/** GPU time by kernel, as a table and as JSON. */
import type { KernelTime } from "../runtime/profileStep.ts";
import { formatFigure, formatTable } from "./table.ts";

export function formatKernels(kernels: readonly KernelTime[]): string {
  const columns = [
    { title: "kernel of rank 0" },
    { title: "launches a step", isFigure: true },
    { title: "GPU µs a step", isFigure: true },
  ];
  const rows = kernels.map(({ kernel, launches, timeUs }) => [
    kernel,
    String(launches),
    formatFigure(timeUs),
  ]);
  return formatTable(columns, rows);
}

export function kernelsAsJson(kernels: readonly KernelTime[]): Record<string, unknown>[] {
  return kernels.map(({ kernel, launches, timeUs }) => ({ kernel, launches, time_us: timeUs }));
}
