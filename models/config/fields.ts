/** Typed reading of a JSON object from outside; every complaint names the file and the key. */
import { ConfigError } from "../../src/common/errors.ts";

/** No count in a model comes near this; above it, u32 arithmetic on the device would wrap. */
const MAX_INTEGER = 2 ** 31 - 1;

/** Shows a value in a message, cut to a length that fits a line. */
export function show(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** One JSON object. A key that is absent and a key that is null are the same, as in transformers. */
export class Fields {
  /** File (and key) that messages name. */
  readonly where: string;
  readonly #json: Readonly<Record<string, unknown>>;

  constructor(json: unknown, where: string) {
    if (!isRecord(json)) {
      throw new ConfigError({ what: where, expected: "a JSON object", got: show(json) });
    }
    this.where = where;
    this.#json = json;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  get(key: string): unknown {
    return this.#json[key] ?? undefined;
  }

  /** The first of the keys that is there, for fields that were renamed between versions. */
  firstOf(...keys: readonly string[]): string | undefined {
    return keys.find((key) => this.has(key));
  }

  fail(key: string, expected: string, remedy?: string): never {
    throw new ConfigError({
      what: `${this.where}: ${key}`,
      expected,
      got: show(this.get(key)),
      ...(remedy === undefined ? {} : { remedy }),
    });
  }

  /** A whole number from `min` to 2^31 - 1; `fallback` when absent, else absent is an error. */
  integer(key: string, min: number, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (
      typeof value !== "number" ||
      !Number.isInteger(value) ||
      value < min ||
      value > MAX_INTEGER
    ) {
      this.fail(key, `a whole number from ${min} to ${MAX_INTEGER}`);
    }
    return value;
  }

  /** A whole number that counts or measures something: at least 1. */
  size(key: string, fallback?: number): number {
    return this.integer(key, 1, fallback);
  }

  positive(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
      this.fail(key, "a number above 0");
    }
    return value;
  }

  number(key: string): number | null {
    const value = this.get(key);
    if (value === undefined) return null;
    if (typeof value !== "number" || !Number.isFinite(value)) this.fail(key, "a number");
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value !== "boolean") this.fail(key, "true or false");
    return value;
  }

  string(key: string): string | undefined {
    const value = this.get(key);
    if (value !== undefined && typeof value !== "string") this.fail(key, "a string");
    return value;
  }

  strings(key: string): readonly string[] {
    const value = this.get(key) ?? [];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      this.fail(key, "a list of strings");
    }
    return value;
  }

  /** Token ids: one, a list, or none. */
  tokenIds(key: string): readonly number[] {
    const value = this.get(key) ?? [];
    const list: readonly unknown[] = Array.isArray(value) ? value : [value];
    const isId = (id: unknown): id is number =>
      typeof id === "number" && Number.isInteger(id) && id >= 0 && id <= MAX_INTEGER;
    if (!list.every(isId)) this.fail(key, "a token id or a list of token ids");
    return list;
  }

  object(key: string): Fields | undefined {
    const value = this.get(key);
    return value === undefined ? undefined : new Fields(value, `${this.where}: ${key}`);
  }
}
