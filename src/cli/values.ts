/** Values of flags, read strictly: what is not wholly a number, a list or a known word is a UsageError. */
import { UsageError } from "../common/errors.ts";

/** Reads the text given for a flag; `flag` is the flag's names, for the message. */
export type ValueParser<T> = (text: string, flag: string) => T;

interface Range {
  readonly min: number;
  readonly max?: number;
}

const WHOLE_NUMBER = /^[+-]?\d+$/;
const DECIMAL_NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function refuse(flag: string, expected: string, text: string): never {
  throw new UsageError({ what: flag, expected, got: JSON.stringify(text) });
}

/** A whole number; without a range, any. */
export function wholeNumber(range?: Range): ValueParser<number> {
  const { min = -Infinity, max = Infinity } = range ?? {};
  const atLeast = range === undefined ? "" : ` of at least ${min}`;
  const expected = `a whole number${max === Infinity ? atLeast : ` from ${min} to ${max}`}`;
  return (text, flag) => {
    const value = WHOLE_NUMBER.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
    return refuse(flag, expected, text);
  };
}

/** Any finite number in decimal notation. */
export const decimalNumber: ValueParser<number> = (text, flag) => {
  const value = DECIMAL_NUMBER.test(text) ? Number(text) : Number.NaN;
  return Number.isFinite(value) ? value : refuse(flag, "a number", text);
};

/** A finite number above 0. */
export const positiveNumber: ValueParser<number> = (text, flag) => {
  const value = DECIMAL_NUMBER.test(text) ? Number(text) : Number.NaN;
  return Number.isFinite(value) && value > 0 ? value : refuse(flag, "a number above 0", text);
};

/** Above 0, at most 1. */
export const fraction: ValueParser<number> = (text, flag) => {
  const value = DECIMAL_NUMBER.test(text) ? Number(text) : Number.NaN;
  return value > 0 && value <= 1 ? value : refuse(flag, "a number above 0, at most 1", text);
};

/** Whole numbers of at least 0 between commas, as `0,1`; `example` is shown where it is none. */
export function wholeNumbers(what: string, example: string): ValueParser<readonly number[]> {
  return (text, flag) => {
    const values = text.split(",").map((part) => (/^\d+$/.test(part) ? Number(part) : Number.NaN));
    if (values.every(Number.isSafeInteger)) return values;
    return refuse(flag, `${what} between commas, as ${example}`, text);
  };
}

/** One of some words. `spellings` has other ways to write them, which the message leaves out. */
export function oneOf<T extends string>(
  words: readonly T[],
  spellings: Readonly<Record<string, T>> = {},
): ValueParser<T> {
  return (text, flag) => {
    const word = words.find((known) => known === text);
    if (word !== undefined) return word;
    const meant = Object.hasOwn(spellings, text) ? spellings[text] : undefined;
    return meant ?? refuse(flag, `one of ${words.join(", ")}`, text);
  };
}

/** Several values of one kind between commas. */
export function listOf<T>(parse: ValueParser<T>): ValueParser<readonly T[]> {
  return (text, flag) => text.split(",").map((part) => parse(part, flag));
}
