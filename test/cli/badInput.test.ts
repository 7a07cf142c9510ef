import { expect, test } from "vitest";
import { runMain } from "./support/capture.ts";

const HI = "Once upon a time";

test.each([
  [[], /^prompt: expected a text or --prompt-ids, got neither/],
  [["--json"], /^prompt: .* got neither/],
  [[HI, "--prompt-ids", "1"], /^prompt: .* got both/],
  [["Once", "upon", "a", "time"], /^arguments of generate: .* got 4; put the prompt in quotes/],
  [["--temprature", "1", HI], /^flag --temprature: .*; did you mean --temperature\?/],
  [["--gpus", "1", HI], /^flag --gpus: expected a flag of generate.*--help/],
  [["-t", HI], /^flag -t: expected a flag of generate/],
  [["--json=1", HI], /^flag --json=1: /],
  [[HI, "--tp"], /^--tensor-parallel-size\/--tp: expected <n>, got nothing/],
  [[HI, "--tp", "two"], /^--tensor-parallel-size\/--tp: expected a whole .*, got "two"/],
  [[HI, "--tp", "1.5"], /^--tensor-parallel-size\/--tp: expected a whole .*, got "1.5"/],
  [[HI, "--tp", "0"], /^--tensor-parallel-size\/--tp: expected .* at least 1, got "0"/],
  [[HI, "--pp", "-1"], /^--pipeline-parallel-size\/--pp: expected .* at least 1, got "-1"/],
  [["--prompt-ids", "1,,2"], /^--prompt-ids: expected token ids .*, got "1,,2"/],
  [["--prompt-ids", ""], /^--prompt-ids: expected token ids .*, got ""/],
  [[HI, "--devices", "a"], /^--devices: expected device numbers .*, got "a"/],
  [[HI, "--executor", "fork"], /^--executor: expected one of workerThreads, inProcess, got "fork"/],
  [[HI, "--dtype", "int8"], /^--dtype: expected one of auto, f32, f16, bf16, got "int8"/],
  [[HI, "--kv-cache-dtype", "fp8"], /^--kv-cache-dtype: expected one of auto, f16, f32/],
  [[HI, "--load-format", "gguf"], /^--load-format: expected one of auto, dummy, got "gguf"/],
  [[HI, "--max-tokens", "0"], /^--max-tokens: expected .* at least 1, got "0"/],
  [[HI, "--collective-timeout", "0"], /^--collective-timeout: expected a number above 0/],
  [[HI, "--temperature", "hot"], /^--temperature: expected a number, got "hot"/],
  [[HI, "--temperature", "-1"], /^--temperature: expected .* at least 0, got -1; use 0 for greedy/],
  [[HI, "--top-p", "1.5"], /^--top-p: expected above 0, at most 1, got 1.5/],
  [[HI, "--top-k", "-2"], /^--top-k: expected .*, got -2/],
  [[HI, "--min-p", "2"], /^--min-p: expected 0 to 1, got 2/],
  [[HI, "--repetition-penalty", "0"], /^--repetition-penalty: expected .* above 0, got 0/],
  [[HI, "--presence-penalty", "3"], /^--presence-penalty: expected -2 to 2, got 3/],
  [[HI, "--frequency-penalty", "-3"], /^--frequency-penalty: expected -2 to 2, got -3/],
  [[HI, "--seed", "4294967296"], /^--seed: expected .*, got 4294967296/],
  [["devcies"], /^command: .* got "devcies"; did you mean `node run.ts devices`\?/],
  [["--tp", "2", "verify"], /^command: .* as the first word.* got "verify"/],
  [["devices", "0"], /^arguments of devices: expected none, got 1/],
  [["devices", "--tp", "2"], /^flag --tp: expected a flag of devices/],
  [["bench"], /^bench: expected one of decode, prefill, kernels, latency, [^,]+.*, got nothing/],
  [["bench", "prefil"], /^bench: expected one of decode, prefill, kernels, .*, got "prefil"/],
  [["bench", "decode", "--top-k", "3"], /^flag --top-k: expected a flag of bench decode/],
  [["bench", "decode", "--repeats", "none"], /^--repeats: expected a whole number of at least 1/],
  [
    ["generate", "--num-scheduler-steps", "17"],
    /^--num-scheduler-steps: expected a whole number from 1 to 16/,
  ],
  [["bench", "decode", "--batch-size", "1,0"], /^--batch-size: expected .* at least 1, got "0"/],
  [
    ["bench", "decode", "-o", "xml"],
    /^--output\/-o: expected one of table, json, csv, md, got "xml"/,
  ],
  [["bench", "kernels", "--family", "linear,conv"], /^--family: expected some of .*, got "conv"/],
  [["bench", "throughput", "--range-ratio", "1"], /^--range-ratio: expected .* below 1, got 1/],
  [["verify", "--rtol", "0"], /^--rtol: expected a number above 0, got "0"/],
  [["verify", HI, "--prompt-ids", "1"], /^prompt: .* got both/],
  [["logits", HI], /^--out: expected <file>, got nothing/],
  [["logits", "--out", "x"], /^prompt: .* got neither/],
  [["logits", HI, "--out", "/no/such/folder/x"], /^--out \/no\/such\/folder\/x: .*ENOENT/],
  [["logits", HI, "--out", "src"], /^--out src: expected a file, got a folder/],
  [["logits", HI, "--out", "package.json/x"], /^--out package.json\/x: .*(ENOTDIR|a file)/],
])("%j: one line and exit code 2", async (argv, message) => {
  const { code, stdout, stderr } = await runMain(argv);
  expect(stderr).toMatch(/^error: [^\n]+\n$/);
  expect(stderr.replace("error: ", "")).toMatch(message);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
});

test.each([
  [["--help"], /Usage: node run\.ts \[command\] \[flags\] \[prompt\][^]*--tp, [^]*Examples:/],
  [["help", "logits"], /Usage: node run\.ts logits [^]*--out <file>/],
  [["devices", "--help"], /Usage: node run\.ts devices /],
  [["bench", "decode", "--help"], /Usage: node run\.ts bench decode [^]*--batch-size/],
  [["--version"], /^\d+\.\d+\.\d+\n$/],
])("%j: on stdout, exit code 0", async (argv, text) => {
  const { code, stdout, stderr } = await runMain(argv);
  expect(stdout).toMatch(text);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
});

test("TANDEM_LOG=debug adds the stack; a wrong level is refused", async () => {
  const before = process.env["TANDEM_LOG"];
  try {
    process.env["TANDEM_LOG"] = "debug";
    expect((await runMain([])).stderr).toMatch(/^error: prompt: .*\n[^]*\n {4}at /);
    process.env["TANDEM_LOG"] = "loud";
    const { code, stderr } = await runMain([HI]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: TANDEM_LOG: expected one of .*, got loud\n$/);
  } finally {
    if (before === undefined) delete process.env["TANDEM_LOG"];
    else process.env["TANDEM_LOG"] = before;
  }
});
