/** RoPE in f64 over heads, by rotate_half's formula: x * cos + [-x2, x1] * sin. */

export function rotateHead(
  head: ArrayLike<number>,
  position: number,
  inverseFrequencies: ArrayLike<number>,
): Float64Array {
  const half = head.length / 2;
  return Float64Array.from({ length: head.length }, (_, i) => {
    const angle = position * (inverseFrequencies[i % half] ?? 0);
    const turned = i < half ? -(head[i + half] ?? 0) : (head[i - half] ?? 0);
    return (head[i] ?? 0) * Math.cos(angle) + turned * Math.sin(angle);
  });
}
