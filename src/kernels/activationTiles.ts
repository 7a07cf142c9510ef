/**
 * How f16 activations lie in memory: shaders/lib/tiles.wgsl. A tile is 16 tokens x 16 features, a token's
 * features side by side, and tiles follow each other along the features, so that one goes from device memory
 * straight into a matrix.
 */
import { ShapeError } from "../common/errors.ts";
import { ceilDiv, roundUp } from "../common/math.ts";
import { expectDType, expectShape, type Tensor } from "../device/device.ts";

/** Tokens, and features, of a tile. */
export const TILE = 16;

/** Shape of f16 activations: [rows / 16, features / 16, 16, 16]; throws unless both are multiples of 16. */
export function tilesShape(rows: number, features: number): readonly number[] {
  if (rows % TILE !== 0 || features % TILE !== 0) {
    throw new ShapeError(
      `activations in tiles: expected rows and features in multiples of ${TILE}, got ${rows} x ${features}`,
    );
  }
  return [rows / TILE, features / TILE, TILE, TILE];
}

/** True where `tensor` holds tiles. */
export function isTiled({ dtype, shape }: Pick<Tensor, "dtype" | "shape">): boolean {
  return dtype === "f16" && shape.length === 4;
}

/** Throws a ShapeError unless `tensor` is [tokens, features] f32, or f16 in tiles of so many tokens or more. */
export function expectActivations(
  name: string,
  tensor: Tensor,
  tokens: number,
  features: number,
): void {
  if (!isTiled(tensor)) {
    expectDType(name, tensor, ["f32"]);
    expectShape(name, tensor, [tokens, features]);
    return;
  }
  const most = Math.max(roundUp(tokens, TILE), (tensor.shape[0] ?? 0) * TILE);
  expectShape(name, tensor, tilesShape(most, features));
}

/** Files with `Quad`, quad_of and quad_at: how a kernel writes such a tensor. */
export function quadSources(tensor: Tensor): readonly string[] {
  return isTiled(tensor) ? ["lib/tiles.wgsl", "lib/quad_f16.wgsl"] : ["lib/quad_f32.wgsl"];
}

/** Features of a token, of activations in rows [rows, features] or in tiles. */
export function numFeatures({ shape }: Pick<Tensor, "shape">): number {
  return shape.length === 4 ? (shape[1] ?? 0) * TILE : (shape.at(-1) ?? 0);
}

/** How many rows of a tensor a tap takes along: of tiles those with live tokens; undefined for a row a token. */
export function tapRows(
  tensor: Tensor,
): ((live: { readonly numTokens: number }) => number) | undefined {
  return isTiled(tensor) ? ({ numTokens }) => ceilDiv(numTokens, TILE) : undefined;
}

/** Where a token's feature lies in tiles, in elements. */
export function tiledAt(token: number, feature: number, features: number): number {
  const tile = Math.floor(token / TILE) * (features / TILE) + Math.floor(feature / TILE);
  return (tile * TILE + (token % TILE)) * TILE + (feature % TILE);
}

/** rows: [numRows, features] -> tiles, as many as whole ones take; tokens past the last are zeros. */
export function toTiles(rows: Uint16Array, features: number): Uint16Array {
  const numRows = rows.length / features;
  const tiles = new Uint16Array(ceilDiv(numRows, TILE) * TILE * features);
  for (let token = 0; token < numRows; token++) {
    for (let i = 0; i < features; i++) {
      tiles[tiledAt(token, i, features)] = rows[token * features + i] ?? 0;
    }
  }
  return tiles;
}

/** tiles -> rows: [numRows, features] */
export function fromTiles(tiles: Uint16Array, numRows: number, features: number): Uint16Array {
  const rows = new Uint16Array(numRows * features);
  for (let token = 0; token < numRows; token++) {
    for (let i = 0; i < features; i++) {
      rows[token * features + i] = tiles[tiledAt(token, i, features)] ?? 0;
    }
  }
  return rows;
}
