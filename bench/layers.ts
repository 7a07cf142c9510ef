/** What benchmarks of linear layers run over. */

/** rows x columns of qkv_proj, o_proj, gate_up_proj and down_proj of Llama-3.1-8B. */
export const LAYERS_OF_8B = [
  [6144, 4096],
  [4096, 4096],
  [28_672, 4096],
  [4096, 14_336],
] as const;

/** Copies of a weight of so many bytes which, read in turn, together are more than any cache holds. */
export function numColdCopies(bytes: number): number {
  return Math.max(2, Math.ceil((256 << 20) / bytes));
}
