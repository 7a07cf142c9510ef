/**
 * What NVIDIA's driver made of compute pipelines: a line each with registers, workgroup memory and the instructions of its
 * largest loop, and the disassembly beside the files, where nvdisasm is in the PATH.
 *
 *   native/buildCodeLayer.sh /tmp/layer
 *   mkdir /tmp/code; VK_ADD_LAYER_PATH=/tmp/layer VK_INSTANCE_LAYERS=VK_LAYER_TANDEM_code TANDEM_CODE_DIR=/tmp/code \
 *     node bench/matrixKernels.ts --shapes 512x512 --tokens 512
 *   node bench/driverCode.ts /tmp/code [--arch SM90]
 *
 * Pipelines are numbered in the order in which the process made them.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { zstdDecompressSync } from "node:zlib";

const { values, positionals } = parseArgs({
  options: { arch: { type: "string", default: "SM90" } },
  allowPositionals: true,
});
const [folder] = positionals;
if (folder === undefined) throw new Error("usage: node bench/driverCode.ts FOLDER [--arch SM90]");

const ZSTD_FRAME = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
/** Of the records that follow an object's header: type, size, offset and five more words. */
const RECORD_BYTES = 32;
const MAX_RECORDS = 64;
const CODE = 1;

/** Machine code in a pipeline cache: a zstd frame with an object "NVuc", whose section of type 1 it is. */
function machineCode(cache: Buffer): Buffer | undefined {
  const frame = cache.indexOf(ZSTD_FRAME);
  if (frame < 0) return undefined;
  const whole = zstdDecompressSync(cache.subarray(frame));
  const object = whole.indexOf("NVuc");
  if (object < 0) return undefined;
  for (let i = 1; i <= MAX_RECORDS; i++) {
    const at = object + i * RECORD_BYTES;
    if (whole.readUInt32LE(at) !== CODE) continue;
    const [size, offset] = [whole.readUInt32LE(at + 4), whole.readUInt32LE(at + 8)];
    return whole.subarray(object + offset, object + offset + size);
  }
  return undefined;
}

interface Instruction {
  readonly at: number;
  readonly name: string;
  readonly operands: string;
}

function parse(listing: string): Instruction[] {
  return listing.split("\n").flatMap((line) => {
    const found = /^\s*\/\*([0-9a-f]+)\*\/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)\s*(.*)/.exec(line);
    const [, at = "0", name, operands = ""] = found ?? [];
    return name === undefined ? [] : [{ at: Number.parseInt(at, 16), name, operands }];
  });
}

/** The instructions between a branch back and where it goes, of the largest such stretch. */
function largestLoop(all: readonly Instruction[]): Instruction[] {
  let largest: Instruction[] = [];
  for (const { at, name, operands } of all) {
    const to = Number.parseInt(/0x([0-9a-f]+)/.exec(operands)?.[1] ?? "", 16);
    if (!name.startsWith("BRA") || !(to < at)) continue;
    const body = all.filter((one) => one.at >= to && one.at <= at);
    if (body.length > largest.length) largest = body;
  }
  return largest;
}

const COUNTED = /^(HMMA|LDSM|LDS|STS|LDG|STG|BAR|SHFL|MUFU)/;

function countsOf(loop: readonly Instruction[]): string {
  const counts = new Map<string, number>();
  for (const { name } of loop) {
    const kind = name.startsWith("LDG") ? name : (COUNTED.exec(name)?.[1] ?? "other");
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => `${kind} ${count}`).join(", ");
}

function statisticsOf(path: string): string {
  if (!existsSync(path)) return "";
  const wanted = /^(Register Count|Stack Size|Shared Memory Size)\t(\d+)$/;
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.flatMap((line) => wanted.exec(line)?.slice(1).join(" ") ?? []).join(", ");
}

const numbers = readdirSync(folder).flatMap((file) => /^(\d+)\.cache$/.exec(file)?.[1] ?? []);
for (const number of numbers.sort((a, b) => Number(a) - Number(b))) {
  const path = join(folder, number);
  const code = machineCode(readFileSync(`${path}.cache`));
  const statistics = statisticsOf(`${path}.stats`);
  if (code === undefined) {
    console.log(`${number}  ${statistics}  no code of NVIDIA's in its cache`);
    continue;
  }
  writeFileSync(`${path}.code`, code);
  let loop = "nvdisasm is not in the PATH";
  try {
    const listing = execFileSync("nvdisasm", ["-b", values.arch, `${path}.code`]).toString();
    writeFileSync(`${path}.sass`, listing);
    loop = `loop: ${countsOf(largestLoop(parse(listing)))}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  console.log(`${number}  ${statistics}, ${code.length} bytes of code  ${loop}`);
}
