import { expect, test } from "vitest";
import { formatBinaryBytes, formatFigure, formatRange, formatTable } from "../../src/cli/table.ts";

test("words line up on the left, figures on the right, no line ends in spaces", () => {
  const columns = [{ title: "name" }, { title: "MB", isFigure: true }, { title: "note" }];
  const rows = [
    ["a", "1.5", "x"],
    ["longer", "10.0", ""],
  ];
  expect(formatTable(columns, rows)).toBe(
    ["name      MB  note", "a        1.5  x", "longer  10.0"].join("\n"),
  );
  expect(formatTable(columns, [])).toBe("name  MB  note");
});

test.each([
  [0, "0"],
  [0.012345, "0.0123"],
  [4.567, "4.57"],
  [1234.5, "1,230"],
])("figure %d is %s", (value, text) => {
  expect(formatFigure(value)).toBe(text);
});

test.each([
  [0, "0 B"],
  [512, "512 B"],
  [48 * 1024, "48 KiB"],
  [128 << 20, "128 MiB"],
  [2 ** 31 - 4, "2 GiB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBinaryBytes(bytes)).toBe(text);
});

test.each([
  [{ begin: 0, end: 6 }, "0-5"],
  [{ begin: 3, end: 4 }, "3"],
  [{ begin: 3, end: 3 }, "-"],
  [undefined, "-"],
])("range %j is %s", (range, text) => {
  expect(formatRange(range)).toBe(text);
});
