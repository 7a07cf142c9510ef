import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEMO_MODEL } from "../../src/cli/modelArgs.ts";
import { testDeviceIndex } from "../support/gpu.ts";
import { runCli, startCli } from "./support/spawnCli.ts";

const PROMPT = "Once upon a time";

interface Golden {
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly text: string;
}
const goldens = JSON.parse(readFileSync(join(DEMO_MODEL, "golden.json"), "utf8")) as Record<
  string,
  Golden
>;
const golden = goldens[PROMPT] ?? { prompt_ids: [], greedy_ids: [], text: "" };

let onDevice: string[] = [];
let folder = "";
beforeAll(async () => {
  onDevice = ["--devices", String(await testDeviceIndex())];
  folder = mkdtempSync(join(tmpdir(), "tandem-cli-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("generate", () => {
  test.each([1, 2])("--json at tp %i: one object with the golden tokens", async (tp) => {
    const flags = ["--json", "--max-tokens", "8", "--tp", String(tp), ...onDevice];
    const { code, stdout, stderr } = await runCli(PROMPT, ...flags);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trimEnd()).not.toContain("\n");
    expect(JSON.parse(stdout)).toMatchObject({
      prompt_token_ids: golden.prompt_ids,
      token_ids: golden.greedy_ids.slice(0, 8),
      finish_reason: "length",
      usage: { prompt_tokens: golden.prompt_ids.length, completion_tokens: 8 },
      layout: { tp, pp: 1, devices: Array.from({ length: tp }, (_, rank) => ({ rank })) },
    });
  });

  test("by default over 2 virtual devices: text on stdout, plan and speed on stderr", async () => {
    const { code, stdout, stderr } = await runCli(PROMPT, "--max-tokens", "8", ...onDevice);
    expect(stderr).not.toMatch(/error/);
    expect(code).toBe(0);
    expect(stdout.length).toBeGreaterThan(10);
    expect(golden.text.startsWith(stdout.replace(/\n$/, ""))).toBe(true);
    expect(stderr).toMatch(/tp 2 x pp 1 = 2 ranks, workerThreads/);
    expect(stderr.match(/virtual devices/g)).toHaveLength(1);
    expect(stderr).toMatch(/Loading weights: .* MB\nCompiling pipelines: /);
    expect(stderr).toMatch(/TTFT .* ms\ndecode .* tok\/s = .* GB\/s .* % of .*\ncollectives .* ms/);
  });

  test("the same in process, by token ids", async () => {
    const ids = ["--prompt-ids", golden.prompt_ids.join(","), "--executor", "inProcess"];
    const flags = ["--json", "--max-tokens", "4", "--tp", "2", "--pp", "2", ...onDevice];
    const { code, stdout, stderr } = await runCli("generate", ...ids, ...flags);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({
      token_ids: golden.greedy_ids.slice(0, 4),
      layout: { tp: 2, pp: 2, executor: "inProcess" },
    });
  });
});

describe("an end before the end", () => {
  const endless = ["--ignore-eos", "--max-tokens", "1000"];

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)(
    "%s stops the generation: what was said stays, exit code %i",
    async (signal, code) => {
      const { child, result } = startCli(PROMPT, ...endless, ...onDevice);
      child.stdout.once("data", () => child.kill(signal));
      const ended = await result;
      expect(ended.code).toBe(code);
      expect(golden.text.startsWith(ended.stdout.replace(/\n$/, ""))).toBe(true);
      expect(ended.stderr).toMatch(/ended by abort/);
      expect(ended.stderr).not.toMatch(/error/i);
    },
  );

  test("a reader that leaves stops it too, and is no error", async () => {
    const { child, result } = startCli(PROMPT, ...endless, ...onDevice);
    child.stdout.once("data", () => child.stdout.destroy());
    const { code, stderr } = await result;
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/error|EPIPE/i);
  });
});

describe("the other commands", () => {
  test("devices", async () => {
    const { code, stdout, stderr } = await runCli("devices", "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const devices = JSON.parse(stdout) as { index: number; read_gb_per_s: number }[];
    expect(devices.map(({ index }) => index)).toEqual(devices.map((_, index) => index));
    for (const { read_gb_per_s } of devices) expect(read_gb_per_s).toBeGreaterThan(0);
  });

  test("logits writes [numTokens, vocabSize] and says which token leads", async () => {
    const out = join(folder, "logits.safetensors");
    const ids = golden.prompt_ids.join(",");
    const flags = ["--prompt-ids", ids, "--out", out, "--tp", "2", "--json", ...onDevice];
    const { code, stdout, stderr } = await runCli("logits", ...flags);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const shape = [golden.prompt_ids.length, 4096];
    expect(JSON.parse(stdout)).toMatchObject({
      shape,
      last_token: { argmax: golden.greedy_ids[0] },
      layout: { tp: 2, kv_cache_dtype: "f32" },
    });
    const bytes = readFileSync(out);
    const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
    expect(JSON.parse(bytes.toString("utf8", 8, headerEnd))).toMatchObject({
      logits: { dtype: "F32", shape },
    });
    expect(bytes.length - headerEnd).toBe(4 * golden.prompt_ids.length * 4096);
  });

  test("verify agrees with one device", async () => {
    const { code, stdout, stderr } = await runCli("verify", PROMPT, "--tp", "2", ...onDevice);
    expect(stderr).not.toMatch(/error/);
    expect(stdout).toMatch(/\nlogits +1 .*\nok: \d+ taps agree to 0.001 of their RMS\n$/);
    expect(code).toBe(0);
  });
});

test("bench decode ends with a line of JSON", async () => {
  const workload = ["--prompt-len", "4", "--output-len", "4", "--repeats", "1"];
  const { code, stdout, stderr } = await runCli("bench", "decode", ...workload, ...onDevice);
  expect(stderr).not.toMatch(/error/);
  expect(code).toBe(0);
  const lines = stdout.trimEnd().split("\n");
  expect(lines.length).toBeGreaterThan(5);
  const report = JSON.parse(lines.at(-1) ?? "") as { results: { tok_per_s: number }[] };
  expect(report.results[0]?.tok_per_s).toBeGreaterThan(0);
  expect(report).toMatchObject({
    benchmark: "decode",
    results: [{ prompt_len: 4, output_len: 4, batch_size: 1 }],
    layout: { tp: 1 },
  });
});

describe("bad input: one line, exit code 2, nothing written", () => {
  /** A copy of the demo model in which something is wrong. */
  function damaged(name: string, damage: (dir: string) => void): () => string[] {
    return () => {
      const dir = join(folder, name);
      cpSync(DEMO_MODEL, dir, { recursive: true });
      damage(dir);
      return ["--model", dir, PROMPT];
    };
  }
  const weights = (dir: string): string => join(dir, "model.safetensors");
  const withConfig =
    (change: Record<string, unknown>) =>
    (dir: string): void => {
      const path = join(dir, "config.json");
      const config = JSON.parse(readFileSync(path, "utf8")) as object;
      writeFileSync(path, JSON.stringify({ ...config, ...change }));
    };
  const cases: [string, () => string[], RegExp][] = [
    ["no such model", () => ["--model", join(folder, "none"), PROMPT], /--model: .*none/],
    ["a folder without a model", () => ["--model", folder, PROMPT], /config.json: .*no such file/],
    [
      "truncated weights",
      damaged("truncated", (dir) => truncateSync(weights(dir), 5_000_000)),
      /model.safetensors: /,
    ],
    [
      "weights without a header",
      damaged("headless", (dir) => truncateSync(weights(dir), 100)),
      /model.safetensors: /,
    ],
    ["missing weights", damaged("weightless", (dir) => rmSync(weights(dir))), /safetensors/],
    [
      "an unknown architecture",
      damaged("mamba", withConfig({ architectures: ["MambaForCausalLM"] })),
      /architectures: expected one of LlamaForCausalLM.*MambaForCausalLM/,
    ],
    [
      "a config that lies about the weights",
      damaged("lying", withConfig({ intermediate_size: 1024 })),
      /expected .*1024.*got/,
    ],
    ["tp that cannot be split", () => [PROMPT, "--tp", "64"], /expected .*, got 64; use/],
    ["pp that cannot be split", () => [PROMPT, "--pp", "7"], /expected .*, got 7/],
    ["a token id out of range", () => ["--prompt-ids", "5,4096"], /prompt token 1: .*got 4096/],
    ["a prompt beyond the context", () => [PROMPT, "--max-model-len", "5"], /prompt: .*got 5/],
    ["a completion beyond it", () => [PROMPT, "--max-tokens", "5000"], /at most 1024 .*5000/],
    ["a context beyond the model's", () => [PROMPT, "--max-model-len", "4096"], /at most 1024/],
    ["no such device", () => [PROMPT, "--devices", "99"], /--devices: .*got 99; .*devices/],
    [
      "logits of an id out of range",
      () => ["logits", "--prompt-ids", "9999", "--out", join(folder, "bad.safetensors")],
      /prompt token 0: .*got 9999/,
    ],
  ];
  test.each(cases)("%s", async (_what, makeArgs, message) => {
    const args = makeArgs();
    const { code, stdout, stderr } = await runCli(...args);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(readdirSync(folder).filter((name) => name.startsWith("bad."))).toEqual([]);
  });
});
