/**
 * Writes a checkpoint of a built-in shape with pseudo-random bf16 weights, to measure loading with:
 *
 *   node bench/writeCheckpoint.ts Llama-3.2-1B /tmp/checkpoint
 */
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { builtinConfig, builtinJson } from "../models/config/builtin.ts";
import { expectedTensors } from "../models/weights/tensors.ts";

const CHUNK_BYTES = 16 << 20;

/** bf16 bits of values between -1/64 and 1/64, the same for each chunk. */
function randomChunk(): Uint8Array {
  const bits = new Uint16Array(CHUNK_BYTES / 2);
  let state = 1;
  for (let i = 0; i < bits.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bits[i] = ((state >>> 16) & 0x807f) | 0x3c00;
  }
  return new Uint8Array(bits.buffer);
}

const [name = "Llama-3.2-1B", folder = "/tmp/checkpoint"] = process.argv.slice(2);
const config = builtinConfig(name);
let end = 0;
const header: Record<string, unknown> = {};
for (const { name: tensor, shape } of expectedTensors(config)) {
  const begin = end;
  end += 2 * shape.reduce((product, size) => product * size, 1);
  header[tensor] = { dtype: "BF16", shape, data_offsets: [begin, end] };
}
const json = JSON.stringify(header);
const padded = json.padEnd(Math.ceil(json.length / 8) * 8, " ");

await mkdir(folder, { recursive: true });
await writeFile(join(folder, "config.json"), JSON.stringify(builtinJson(name)));
const file = await open(join(folder, "model.safetensors"), "w");
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(padded.length));
await file.write(length);
await file.write(padded);
const chunk = randomChunk();
for (let at = 0; at < end; at += CHUNK_BYTES) {
  await file.write(chunk, 0, Math.min(CHUNK_BYTES, end - at));
}
await file.close();
console.log(`${folder}: ${name}, ${(end / 1e9).toFixed(2)} GB`);
