/**
 * Subgroup matrices in plain WGSL, so that software adapters run the kernels of tensor cores: every index and
 * every tail of them is tested, though not what a driver makes of them.
 *
 * A subgroup is 32 neighbouring lanes of the workgroup. An operand is the place that it was loaded from, read when
 * it is multiplied, before the next barrier; of a result each lane has eight elements, side by side in a row.
 */
import type { Device } from "../../src/device/device.ts";
import { NodeOpener } from "../../src/device/openNode.ts";
import type { OpenOptions } from "../../src/device/opener.ts";

/** The variable in workgroup memory that operands come from, unless they come from x. */
const STAGED = /var<workgroup> (tiles|regions): array<vec4u/;

const libraryOver = (staged: string): string => `
struct Operand { is_x: bool, at: u32, stride: u32 } // in eights of halves
struct Elements { low: vec4f, high: vec4f }
var<private> emulated_lane: u32;

fn operand_staged(at: u32, stride: u32) -> Operand { return Operand(false, at, stride); }
fn operand_x(at: u32, stride: u32) -> Operand { return Operand(true, at, stride); }

// Eight of an operand's sixteen elements along k, of its row (left) or column (right) i.
fn eight_of(operand: Operand, i: u32, half: u32) -> Elements {
  let at = operand.at + i * operand.stride + half;
  var words: vec4u;
  if (operand.is_x) { words = bitcast<vec4u>(x[at]); } else { words = ${staged}[at]; }
  return Elements(
    vec4f(unpack2x16float(words.x), unpack2x16float(words.y)),
    vec4f(unpack2x16float(words.z), unpack2x16float(words.w)));
}

fn multiply(left: Operand, right: Operand, sums: Elements) -> Elements {
  var all = array<f32, 8>(
    sums.low.x, sums.low.y, sums.low.z, sums.low.w, sums.high.x, sums.high.y, sums.high.z, sums.high.w);
  for (var half = 0u; half < 2u; half++) {
    let row = eight_of(left, emulated_lane / 2u, half);
    for (var j = 0u; j < 8u; j++) {
      let column = eight_of(right, emulated_lane % 2u * 8u + j, half);
      all[j] += dot(row.low, column.low) + dot(row.high, column.high);
    }
  }
  return Elements(vec4f(all[0], all[1], all[2], all[3]), vec4f(all[4], all[5], all[6], all[7]));
}

fn store_staged(at: u32, sums: Elements, stride: u32) {
  let to = at + emulated_lane / 2u * stride + emulated_lane % 2u * 2u;
  ${staged}[to] = bitcast<vec4u>(sums.low);
  ${staged}[to + 1u] = bitcast<vec4u>(sums.high);
}

fn store_y(at: u32, sums: Elements, stride: u32) {
  let to = at + emulated_lane / 2u * stride + emulated_lane % 2u * 8u;
  for (var j = 0u; j < 4u; j++) {
    y[to + j] = sums.low[j];
    y[to + 4u + j] = sums.high[j];
  }
}
`;

/** The same kernel without matrices; text without any stays as it is. */
export function emulateMatrices(code: string): string {
  if (!code.includes("subgroup_matrix")) return code;
  const staged = STAGED.exec(code)?.[1];
  if (staged === undefined) throw new Error("no workgroup memory that operands could come from");
  const nameOf = (variable: string): string => (variable === staged ? "staged" : variable);
  const plain = code
    .replace(/enable (f16|subgroups|chromium_experimental_subgroup_matrix);/g, "")
    .replace("diagnostic(off, chromium.subgroup_matrix_uniformity);", "")
    .replace(/subgroup_matrix_(left|right)<f16, 16, 16>/g, "Operand")
    .replaceAll("subgroup_matrix_result<f32, 16, 16>", "Elements")
    .replace(/subgroupMatrixLoad<\w+, (?:row|col)_major>\(&(\w+), /g, (_, variable: string) => {
      return `operand_${nameOf(variable)}(`;
    })
    .replace(/subgroupMatrixStore<row_major>\(&(\w+), /g, (_, variable: string) => {
      return `store_${nameOf(variable)}(`;
    })
    .replaceAll("subgroupMatrixMultiplyAccumulate(", "multiply(")
    .replace(/@builtin\(subgroup_id\) subgroup: u32,/, "")
    // strides against bank conflicts take more than the 32 KiB of workgroup memory that software adapters have
    .replace("const STRIDE = 9u;", "const STRIDE = 8u;")
    .replace("const SUM_STRIDE = 33u;", "const SUM_STRIDE = 32u;")
    .replace(/(fn main\([^{]*\{)/, "$1\nlet subgroup = lane / 32u;\nemulated_lane = lane % 32u;\n");
  return plain + libraryOver(staged);
}

/** `device`, which then says that it has tensor cores. */
export function withMatrices(device: Device): Device {
  const { pipelines, info } = device;
  const compile = pipelines.get.bind(pipelines);
  pipelines.get = (spec) => compile({ ...spec, code: emulateMatrices(spec.code) });
  const limits = { ...info.limits, maxComputeWorkgroupStorageSize: 49_152 };
  const subgroups = { hasSubgroups: false, subgroupMinSize: 32, subgroupMaxSize: 32 }; // none but for matrices
  const tensorCores = { isSoftware: false, hasF16Matrices: true, ...subgroups, limits };
  Object.defineProperty(device, "info", { value: { ...info, ...tensorCores } });
  return device;
}

/** Opens devices with emulated matrices only. */
export class MatrixOpener extends NodeOpener {
  override async open(options: OpenOptions): Promise<Device> {
    return withMatrices(await super.open(options));
  }
}
