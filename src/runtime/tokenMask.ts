/** Sets of tokens as bit masks, and as text: a StepPlan travels as JSON, where an array would take 3 times the room. */
import { ShapeError, UsageError } from "../common/errors.ts";
import { ceilDiv } from "../common/math.ts";

/** Bit `id % 32` of word `floor(id / 32)` is set if the token may be sampled. */
export type TokenMask = Uint32Array;

const CHUNK_BYTES = 8192; // String.fromCharCode takes so many arguments in any engine

/** u32 words of a mask over a vocabulary. */
export function tokenMaskWords(vocabSize: number): number {
  return ceilDiv(vocabSize, 32);
}

/** No token at all. */
export function emptyTokenMask(vocabSize: number): TokenMask {
  return new Uint32Array(tokenMaskWords(vocabSize));
}

/** A mask of exactly these tokens. */
export function tokenMaskOf(tokenIds: Iterable<number>, vocabSize: number): TokenMask {
  const mask = emptyTokenMask(vocabSize);
  for (const id of tokenIds) mask[id >>> 5] = (mask[id >>> 5] ?? 0) | (1 << (id & 31));
  return mask;
}

/** Every token. */
export function fullTokenMask(vocabSize: number): TokenMask {
  return emptyTokenMask(vocabSize).fill(0xffff_ffff);
}

/** Takes tokens out of a mask, in place. */
export function forbidTokens(mask: TokenMask, tokenIds: Iterable<number>): void {
  for (const id of tokenIds) mask[id >>> 5] = (mask[id >>> 5] ?? 0) & ~(1 << (id & 31));
}

/** The mask of tokens begin to end - 1 as a mask of its own: bit 0 is token `begin`. */
export function sliceTokenMask(mask: TokenMask, begin: number, end: number): TokenMask {
  const [firstWord, shift] = [begin >>> 5, begin & 31];
  return emptyTokenMask(end - begin).map((_, i) => {
    const low = (mask[firstWord + i] ?? 0) >>> shift;
    const high = shift === 0 ? 0 : (mask[firstWord + i + 1] ?? 0) << (32 - shift);
    return low | high;
  });
}

/** The mask lets this token through. */
export function allowsToken(mask: TokenMask, tokenId: number): boolean {
  return (((mask[tokenId >>> 5] ?? 0) >>> (tokenId & 31)) & 1) === 1;
}

/** Base64 of the words' bytes, little-endian. */
export function encodeTokenMask(mask: TokenMask): string {
  const bytes = new Uint8Array(mask.buffer, mask.byteOffset, mask.byteLength);
  let binary = "";
  for (let begin = 0; begin < bytes.length; begin += CHUNK_BYTES) {
    binary += String.fromCharCode(...bytes.subarray(begin, begin + CHUNK_BYTES));
  }
  return btoa(binary);
}

/** The words again; throws if they are not those of this vocabulary. */
export function decodeTokenMask(text: string, vocabSize: number): TokenMask {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const numWords = tokenMaskWords(vocabSize);
  if (bytes.length !== numWords * 4) {
    throw new ShapeError(`token mask: expected ${numWords * 4} bytes, got ${bytes.length}`);
  }
  return new Uint32Array(bytes.buffer);
}

/**
 * A request's mask as a plan carries it; undefined allows all. Throws a UsageError where it allows none,
 * or none but `banned`: every logit would be -Infinity, and the draw whatever the kernel makes of that.
 */
export function packAllowedTokens(
  mask: TokenMask | null,
  vocabSize: number,
  banned: readonly number[] = [],
): string | undefined {
  if (mask === null) return undefined;
  const numWords = tokenMaskWords(vocabSize);
  if (mask.length !== numWords) {
    const expected = `${numWords} words for a vocabSize of ${vocabSize}`;
    throw new UsageError({ what: "allowedTokens", expected, got: mask.length });
  }
  if (isEmptyMask(mask, vocabSize)) {
    throw new UsageError({ what: "allowedTokens", expected: "at least 1 token", got: 0 });
  }
  if (banned.length > 0) {
    const left = mask.slice();
    forbidTokens(left, banned);
    if (isEmptyMask(left, vocabSize)) throw onlyBannedLeft();
  }
  return encodeTokenMask(mask);
}

function isEmptyMask(mask: TokenMask, vocabSize: number): boolean {
  const lastBits = vocabSize % 32 === 0 ? 0xffff_ffff : 2 ** (vocabSize % 32) - 1;
  return mask.every((word, i) => (i === mask.length - 1 ? word & lastBits : word) === 0);
}

function onlyBannedLeft(): UsageError {
  return new UsageError({
    what: "allowedTokens",
    expected: "a token that minTokens does not ban",
    got: "only tokens that would end the completion",
    remedy: "lower minTokens, or ask for a format that can go on for so long",
  });
}
