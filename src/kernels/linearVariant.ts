/** Which shader computes a linear layer, and with which sizes. */
export interface GemvVariant {
  readonly kind: "gemv";
  /** Tokens a workgroup handles; more tokens take more workgroups. */
  readonly tokens: 1 | 4 | 8;
  readonly workgroupSize: number;
  readonly lanesPerRow: number;
  readonly rowsPerLane: number;
  readonly rowSum: "none" | "tree";
}
