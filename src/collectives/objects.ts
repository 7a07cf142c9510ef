/** Plain values as JSON, for what is small and seldom: settings, reports, placement. */
import { CollectiveError, messageOf } from "../common/errors.ts";

export function encodeObject(value: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(value) as string | undefined; // undefined for undefined
  return new TextEncoder().encode(text ?? "null");
}

/** The caller says what it is; nothing is checked but that it is JSON. */
export function decodeObject(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch (error) {
    throw new CollectiveError(`object: what arrived is not JSON: ${messageOf(error)}`);
  }
}
