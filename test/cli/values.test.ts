import { describe, expect, test } from "vitest";
import { UsageError } from "../../src/common/errors.ts";
import {
  decimalNumber,
  oneOf,
  positiveNumber,
  type ValueParser,
  wholeNumber,
  wholeNumbers,
} from "../../src/cli/values.ts";

const ids = wholeNumbers("token ids", "5,6,7");
const executor = oneOf(["workerThreads", "inProcess"], { "in-process": "inProcess" });

describe("accepted", () => {
  const cases: [string, ValueParser<unknown>, string, unknown][] = [
    ["whole number", wholeNumber({ min: 1 }), "12", 12],
    ["smallest", wholeNumber({ min: 1 }), "1", 1],
    ["largest", wholeNumber({ min: 1, max: 8 }), "8", 8],
    ["negative where there is no range", wholeNumber(), "-1", -1],
    ["decimal", decimalNumber, "0.7", 0.7],
    ["without a leading zero", decimalNumber, ".5", 0.5],
    ["exponent", decimalNumber, "1e-5", 1e-5],
    ["negative decimal", decimalNumber, "-1.5", -1.5],
    ["positive", positiveNumber, "0.5", 0.5],
    ["one id", ids, "0", [0]],
    ["ids", ids, "1,2,3", [1, 2, 3]],
    ["word", executor, "workerThreads", "workerThreads"],
    ["spelling", executor, "in-process", "inProcess"],
  ];
  test.each(cases)("%s", (_what, parse, text, value) => {
    expect(parse(text, "--flag")).toEqual(value);
  });
});

describe("refused, naming flag, expected and got", () => {
  const atLeast1 = "expected a whole number of at least 1";
  const whole = wholeNumber({ min: 1 });
  const list = "expected token ids between commas, as 5,6,7";
  const cases: [ValueParser<unknown>, string, string][] = [
    [whole, "two", atLeast1],
    [whole, "1.5", atLeast1],
    [whole, "0", atLeast1],
    [whole, "-1", atLeast1],
    [whole, "", atLeast1],
    [whole, "1e3", atLeast1],
    [whole, "0x10", atLeast1],
    [whole, " 1", atLeast1],
    [whole, "99999999999999999999", atLeast1],
    [wholeNumber({ min: 1, max: 8 }), "9", "expected a whole number from 1 to 8"],
    [wholeNumber(), "1.0", "expected a whole number"],
    [decimalNumber, "1.2.3", "expected a number"],
    [decimalNumber, "NaN", "expected a number"],
    [decimalNumber, "Infinity", "expected a number"],
    [decimalNumber, "1e999", "expected a number"],
    [decimalNumber, "0,7", "expected a number"],
    [decimalNumber, "", "expected a number"],
    [positiveNumber, "0", "expected a number above 0"],
    [ids, "1,,2", list],
    [ids, "", list],
    [ids, "1,", list],
    [ids, "1 2", list],
    [ids, "-1", list],
    [ids, "1.5", list],
    [executor, "threads", "expected one of workerThreads, inProcess"],
    [executor, "constructor", "expected one of workerThreads, inProcess"],
    [executor, "", "expected one of workerThreads, inProcess"],
  ];
  test.each(cases)("%o %j: %s", (parse, text, expected) => {
    expect(() => parse(text, "--flag")).toThrow(
      new UsageError(`--flag: ${expected}, got ${JSON.stringify(text)}`),
    );
  });
});
