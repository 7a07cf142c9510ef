import fc from "fast-check";
import { expect, test } from "vitest";
import { StopStringMatcher } from "../../src/runtime/stopStrings.ts";

interface Outcome {
  readonly text: string;
  readonly stopString: string | null;
}

function run(pieces: readonly string[], stops: readonly string[], includesStop = false): Outcome {
  const matcher = new StopStringMatcher(stops, includesStop);
  let text = "";
  for (const piece of pieces) {
    const found = matcher.push(piece);
    text += found.text;
    if (found.stopString !== null) return { text, stopString: found.stopString };
  }
  return { text: text + matcher.end(), stopString: null };
}

// Letter by letter: the first end of any stop string, and of those that end there the longest.
function oracle(text: string, stops: readonly string[]): Outcome {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const [longest] = ending.sort((a, b) => b.length - a.length);
    if (longest !== undefined)
      return { text: text.slice(0, end - longest.length), stopString: longest };
  }
  return { text, stopString: null };
}

const letters = fc
  .array(fc.constantFrom("a", "b"), { maxLength: 6 })
  .map((parts) => parts.join(""));
const stop = letters.filter((value) => value !== "");

test("however the text is cut, it ends before the first stop string", () => {
  const seen = { stopped: 0 };
  const holds = fc.property(
    fc.array(letters, { maxLength: 6 }),
    fc.array(stop, { maxLength: 3 }),
    (pieces, stops) => {
      const expected = oracle(pieces.join(""), stops);
      if (expected.stopString !== null) seen.stopped += 1;
      expect(run(pieces, stops)).toEqual(expected);
      const { text, stopString } = run(pieces, stops, true);
      expect(text).toBe(expected.text + (stopString ?? ""));
    },
  );
  fc.assert(holds, { numRuns: 1000 });
  expect(seen.stopped).toBeGreaterThan(200);
});

test("only what may become a stop string is held back", () => {
  const matcher = new StopStringMatcher(["\n\nUser:", "END"]);
  expect(matcher.push("one E").text).toBe("one ");
  expect(matcher.push("ND").stopString).toBe("END");
  const other = new StopStringMatcher(["\n\nUser:", "END"]);
  expect(["two\n", "\nUs", "ual"].map((piece) => other.push(piece).text)).toEqual([
    "two",
    "",
    "\n\nUsual",
  ]);
  expect(other.end()).toBe("");
});

test("a string that may not stop yet is let through, unless it is completed later", () => {
  const matcher = new StopStringMatcher(["ab"]);
  expect(matcher.push("xab", false)).toEqual({ text: "xab", stopString: null });
  expect(matcher.push("a", false)).toEqual({ text: "", stopString: null });
  expect(matcher.push("b", true)).toEqual({ text: "", stopString: "ab" });
});
