/**
 * World ranks as a grid, outermost to innermost: dp, pp, pcp, tp. Pure arithmetic; the names and the
 * order are those of vLLM's parallel_state. dcp cuts each tp group into runs; ep spans dp x tp.
 */
import { ShardingError } from "../common/errors.ts";

export interface ParallelSizes {
  readonly dp?: number;
  readonly pp?: number;
  readonly pcp?: number;
  readonly tp?: number;
  /** Divides tp. */
  readonly dcp?: number;
}

const DIMENSIONS = ["dp", "pp", "pcp", "tp"] as const;
type Dimension = (typeof DIMENSIONS)[number];

/** Every kind of group; its place in this list is its namespace in tags and in the control block. */
export const GROUP_KINDS = ["world", "tp", "pp", "dp", "ep", "pcp", "dcp"] as const;
export type GroupKind = (typeof GROUP_KINDS)[number];

export type Coordinates = Readonly<Record<Dimension, number>>;

export class ParallelGrid {
  readonly worldSize: number;
  readonly sizes: Readonly<Record<Dimension | "dcp", number>>;

  constructor(worldSize: number, { dp = 1, pp = 1, pcp = 1, tp = 1, dcp = 1 }: ParallelSizes) {
    this.worldSize = worldSize;
    this.sizes = { dp, pp, pcp, tp, dcp };
    const product = DIMENSIONS.map((name) => `${name} ${this.sizes[name]}`).join(" x ");
    for (const [name, size] of Object.entries(this.sizes)) {
      if (!Number.isInteger(size) || size < 1) {
        throw new ShardingError({ what: name, expected: "a whole number of 1 or more", got: size });
      }
    }
    if (dp * pp * pcp * tp !== worldSize) {
      throw new ShardingError({
        what: "parallel sizes",
        expected: `a product of ${worldSize}, the number of ranks`,
        got: `${product} = ${dp * pp * pcp * tp}`,
      });
    }
    if (tp % dcp !== 0) {
      throw new ShardingError({ what: "dcp", expected: `a divisor of tp ${tp}`, got: dcp });
    }
  }

  coordinates(rank: number): Coordinates {
    const { pp, pcp, tp } = this.sizes;
    return {
      dp: Math.floor(rank / (tp * pcp * pp)),
      pp: Math.floor(rank / (tp * pcp)) % pp,
      pcp: Math.floor(rank / tp) % pcp,
      tp: rank % tp,
    };
  }

  rankAt({ dp, pp, pcp, tp }: Coordinates): number {
    const { sizes } = this;
    return ((dp * sizes.pp + pp) * sizes.pcp + pcp) * sizes.tp + tp;
  }

  /** World ranks of the group of `kind` that `rank` is in, in group order. */
  groupOf(kind: GroupKind, rank: number): number[] {
    const own = this.#groupKey(kind, rank);
    return this.#allRanks().filter((other) => this.#groupKey(kind, other) === own);
  }

  /** All groups of a kind; each rank is in exactly one. */
  groups(kind: GroupKind): number[][] {
    const byKey = Map.groupBy(this.#allRanks(), (rank) => this.#groupKey(kind, rank));
    return [...byKey.values()];
  }

  /** Equal for ranks of the same group: the coordinates along which the group does not extend. */
  #groupKey(kind: GroupKind, rank: number): string {
    const at = this.coordinates(rank);
    switch (kind) {
      case "world":
        return "";
      case "tp":
        return [at.dp, at.pp, at.pcp].join();
      case "pp":
        return [at.dp, at.pcp, at.tp].join();
      case "dp":
        return [at.pp, at.pcp, at.tp].join();
      case "pcp":
        return [at.dp, at.pp, at.tp].join();
      case "dcp":
        return [at.dp, at.pp, at.pcp, Math.floor(at.tp / this.sizes.dcp)].join();
      case "ep":
        return [at.pp, at.pcp].join();
    }
  }

  #allRanks(): number[] {
    return Array.from({ length: this.worldSize }, (_, rank) => rank);
  }
}
