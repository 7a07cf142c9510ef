/** Checks `Authorization: Bearer KEY` without telling by its timing how much of the key was right. */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "./apiError.ts";

// Digests have one length, which timingSafeEqual needs, and hide that of the key.
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Throws a 401 unless the header carries one of the keys; no keys let everybody in. */
export function apiKeyCheck(keys: readonly string[]): (authorization: string | undefined) => void {
  const known = keys.map(digest);
  return (authorization) => {
    if (known.length === 0) return;
    const [, given = ""] = /^Bearer (.+)$/i.exec(authorization ?? "") ?? [];
    const got = digest(given);
    // Every key is compared, so that the time does not depend on which one matches.
    const isKnown = known.map((key) => timingSafeEqual(key, got)).includes(true);
    if (isKnown) return;
    throw new ApiError({
      status: 401,
      type: "authentication_error",
      code: "invalid_api_key",
      message: "Incorrect or missing API key; send it as `Authorization: Bearer KEY`.",
    });
  };
}
