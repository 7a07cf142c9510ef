import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { testDeviceIndex } from "../support/gpu.ts";

const entry = fileURLToPath(new URL("../../run.ts", import.meta.url));
const faults = new URL("support/loseThread.ts", import.meta.url).href;

interface ServeProcess {
  readonly url: string;
  kill(signal: NodeJS.Signals): void;
  readonly exited: Promise<number | null>;
}

/** `node run.ts serve` on a free port, once it says where. */
async function serve(...flags: string[]): Promise<ServeProcess> {
  const device = String(await testDeviceIndex());
  const args = [entry, "serve", "--port", "0", "--devices", device, ...flags];
  const child = spawn(process.execPath, ["--import", faults, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const url = await new Promise<string>((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      const [, found] = /Serving .* at (http:\S+)/.exec(said) ?? [];
      if (found !== undefined) resolve(found);
    });
    void exited.then((code) => {
      reject(new Error(`exit code ${code}: ${said}`));
    });
  });
  return { url, kill: (signal) => void child.kill(signal), exited };
}

async function waitForHealth(url: string, wanted: number, timeoutMs: number): Promise<number> {
  const begin = performance.now();
  while ((await fetch(`${url}/health`)).status !== wanted) {
    if (performance.now() - begin > timeoutMs) throw new Error(`health is not ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - begin;
}

test("a worker is lost under load: health fails, others never stop, it comes back, SIGTERM drains", async () => {
  const server = await serve(
    "--dp",
    "2",
    "--tp",
    "2",
    "--max-model-len",
    "256",
    "--max-num-seqs",
    "4",
  );
  const { url } = server;
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const failedAtMs: number[] = [];
  const generate = async (): Promise<"whole" | "failed"> => {
    const body = { model: "fable-5m", prompt: "Once upon a time", max_tokens: 48 };
    const options = { timeout: 60_000 };
    try {
      const stream = await client.completions.create({ ...body, stream: true }, options);
      let numChunks = 0;
      for await (const chunk of stream) numChunks += chunk.choices.length;
      return numChunks > 20 ? "whole" : "failed";
    } catch (error) {
      expect(String(error)).toMatch(/worker of the model was lost|No replica/);
      failedAtMs.push(performance.now());
      return "failed";
    }
  };
  const running = Array.from({ length: 6 }, generate);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const killedAtMs = performance.now();
  server.kill("SIGUSR2");
  expect(await waitForHealth(url, 503, 2000)).toBeLessThan(2000);
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  expect(await generate()).toBe("whole"); // by the other replica, while the first is away
  const outcomes = await Promise.all(running);
  expect(outcomes).toContain("whole");
  for (const atMs of failedAtMs) expect(atMs - killedAtMs).toBeLessThan(5000);
  await waitForHealth(url, 200, 60_000);
  expect(await Promise.all([generate(), generate()])).toEqual(["whole", "whole"]);
  const last = generate();
  await new Promise((resolve) => setTimeout(resolve, 200));
  server.kill("SIGTERM");
  expect(await last).toBe("whole");
  expect(await server.exited).toBe(143);
});
