import { expect, test } from "vitest";
import { createLogger, parseLogLevel } from "../../src/common/logger.ts";

test("a level keeps itself and what is graver, and the rest is never computed", () => {
  const lines: string[] = [];
  const log = createLogger("engine", { level: "warn", write: (line) => lines.push(line) });
  log.debug(() => {
    throw new Error("computed");
  });
  log.info("ready");
  log.warn("slow");
  log.error(() => "lost");
  expect(lines).toEqual(["warn: engine: slow", "error: engine: lost"]);
});

test("TANDEM_LOG", () => {
  expect(parseLogLevel(undefined)).toBe("info");
  expect(parseLogLevel("DEBUG")).toBe("debug");
  expect(() => parseLogLevel("loud")).toThrow(
    "TANDEM_LOG: expected one of debug, info, warn, error, silent, got loud",
  );
});
