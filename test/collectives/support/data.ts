/** Test data from seeds, so that every rank can compute what any other rank holds. */

/** xorshift32 */
function* bits(seed: number): Generator<number, never> {
  let state = (seed * 2654435761 + 1) | 0 || 1;
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

export function randomBytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const random = bits(seed);
  return Uint8Array.from({ length }, () => random.next().value & 255);
}

/** Of mixed sign and size, so that the order of additions shows in the last bits. */
export function randomFloats(length: number, seed: number): Float32Array<ArrayBuffer> {
  const random = bits(seed);
  return Float32Array.from({ length }, () => {
    const [value, exponent] = [random.next().value / 2 ** 31 - 1, random.next().value % 8];
    return value * 2 ** exponent;
  });
}

/** The bit patterns, so that comparisons tell -0 from 0 and see every last bit. */
export function bitsOf(floats: Float32Array): Uint32Array {
  return new Uint32Array(new Float32Array(floats).buffer);
}
