import { expect, test } from "vitest";
import { formatReport } from "../../src/cli/benchReport.ts";
import type { BenchReport } from "../../src/runtime/bench/report.ts";

const report: BenchReport = {
  benchmark: "decode",
  model: "Tiny, Inc",
  settings: { device: "GPU", driver: "", tp: 1, dtype: "bf16" },
  ceilings: {
    readGBps: 4321,
    fmaTflops: 50,
    matrixTflops: null,
    dispatchUs: 1.75,
    encodeUs: 3,
    mapLatencyUs: 40,
  },
  columns: [
    { key: "name", title: "call" },
    { key: "tok_per_s", title: "tok/s" },
    { key: "nothing", title: "never filled" },
  ],
  rows: [
    { name: 'a|b "c"', tok_per_s: 1234.5, more: 1 },
    { name: "d", tok_per_s: null },
  ],
  kernels: [[{ kernel: "gemv", launches: 2, timeUs: 10 }], []],
  layout: null,
};

test("a table shows ceilings, the columns that are filled, kernels, and ends with a line of JSON", () => {
  const text = formatReport(report, "table");
  const lines = text.split("\n");
  expect(lines[0]).toBe("bench decode  Tiny, Inc");
  expect(text).toContain("reads 4,320 GB/s, FMA 50 TFLOP/s, a launch 1.75 µs on the GPU");
  expect(lines).toContain("call     tok/s");
  expect(lines).toContain('a|b "c"  1,230');
  expect(lines).toContain("d            -");
  expect(text).toMatch(/\ngemv +2 +10\n/);
  expect(lines.at(-1)).toBe(formatReport(report, "json"));
});

test("JSON has every field, and a row's kernels in the row", () => {
  expect(JSON.parse(formatReport(report, "json"))).toEqual({
    benchmark: "decode",
    model: "Tiny, Inc",
    settings: report.settings,
    ceilings: {
      read_gb_per_s: 4321,
      fma_tflops: 50,
      matrix_tflops: null,
      dispatch_us: 1.75,
      encode_us: 3,
      map_latency_us: 40,
    },
    results: [
      {
        name: 'a|b "c"',
        tok_per_s: 1234.5,
        more: 1,
        kernels: [{ kernel: "gemv", launches: 2, time_us: 10 }],
      },
      { name: "d", tok_per_s: null },
    ],
  });
});

test("CSV repeats settings and ceilings on each line and quotes what must be", () => {
  expect(formatReport(report, "csv").split("\n")).toEqual([
    "benchmark,model,device,driver,tp,dtype,read_gb_per_s,fma_tflops,matrix_tflops,dispatch_us,encode_us,map_latency_us,name,tok_per_s,more",
    'decode,"Tiny, Inc",GPU,,1,bf16,4321,50,,1.75,3,40,"a|b ""c""",1234.5,1',
    'decode,"Tiny, Inc",GPU,,1,bf16,4321,50,,1.75,3,40,d,,',
  ]);
});

test("Markdown escapes what would end a cell", () => {
  const lines = formatReport(report, "md").split("\n");
  expect(lines.slice(-4)).toEqual([
    "| call | tok/s |",
    "| --- | ---: |",
    '| a\\|b "c" | 1,230 |',
    "| d | - |",
  ]);
});
