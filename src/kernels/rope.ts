/** RoPE's inverse frequencies and table, as Hugging Face transformers define them; no GPU here. */

/** theta is the base of the frequencies; linear and llama3 stretch them for longer contexts. */
export type RopeParameters =
  | { readonly type: "default"; readonly theta: number }
  | { readonly type: "linear"; readonly theta: number; readonly factor: number }
  | Llama3Parameters;

interface Llama3Parameters {
  readonly type: "llama3";
  readonly theta: number;
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalMaxPositionEmbeddings: number;
}

/** Radians a position turns each of the headDim / 2 pairs: theta^(-2i / headDim), then scaled. */
export function inverseFrequencies(rope: RopeParameters, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) =>
    scaleFrequency(rope, rope.theta ** ((-2 * i) / headDim)),
  );
}

function scaleFrequency(rope: RopeParameters, frequency: number): number {
  switch (rope.type) {
    case "default":
      return frequency;
    case "linear":
      return frequency / rope.factor;
    case "llama3":
      return scaleLlama3(rope, frequency);
  }
}

/**
 * Waves that turn at least highFreqFactor times in the original context stay; those that turn at
 * most lowFreqFactor times are stretched by `factor`; in between, a linear blend.
 */
function scaleLlama3(rope: Llama3Parameters, frequency: number): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = rope;
  const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
  if (turns > highFreqFactor) return frequency;
  if (turns < lowFreqFactor) return frequency / factor;
  const blend = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - blend) * (frequency / factor) + blend * frequency;
}

/**
 * [maxPositions, headDim]: a row holds cos of the headDim / 2 angles, then sin. Angles are f64:
 * an f32 product is off by up to 4e-3 radians at position 131,071.
 */
export function ropeTable(
  rope: RopeParameters,
  headDim: number,
  maxPositions: number,
): Float32Array<ArrayBuffer> {
  const half = headDim / 2;
  const frequencies = inverseFrequencies(rope, headDim);
  const table = new Float32Array(maxPositions * headDim);
  for (let i = 0; i < half; i++) {
    const frequency = frequencies[i] ?? 0;
    for (let position = 0; position < maxPositions; position++) {
      const angle = position * frequency;
      table[position * headDim + i] = Math.cos(angle);
      table[position * headDim + half + i] = Math.sin(angle);
    }
  }
  return table;
}
