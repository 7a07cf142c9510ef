import { expect, test } from "vitest";
import { groupNear, linkBetween, type Location } from "../../src/runtime/placement.ts";

/** A GPU at the end of a path below its root complex. */
function gpu(path: string, numaNode: number | null): Location {
  const parts = path.split("/");
  return {
    pciAddress: parts.at(-1) ?? null,
    place: { path: parts, numaNode, numaCpus: null },
  };
}

/** Four switches with two GPUs each, two switches a socket; the shape of a DGX A100, by bus number. */
const pairs = [0x07, 0x0f, 0x47, 0x4e, 0x87, 0x90, 0xb7, 0xbd].map((bus, index) => {
  const complex = (Math.floor(index / 2) * 0x40).toString(16).padStart(2, "0");
  const below = `pci0000:${complex}/0000:${complex}:01.0/0000:${complex}:02.0`;
  return gpu(
    `${below}/0000:${complex}:03.${index % 2}/0000:${bus.toString(16)}:00.0`,
    index < 4 ? 0 : 1,
  );
});
/** A root complex and a switch for each GPU, four a socket; the shape of an HGX H200. */
const single = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf].map((bus, index) => {
  const complex = (bus - 6).toString(16);
  const port = `pci0000:${complex}/0000:${complex}:01.0`;
  return gpu(
    `${port}/0000:${(bus - 2).toString(16)}:00.0/0000:${bus.toString(16)}:00.0`,
    index >> 2,
  );
});
/** A virtual machine: every GPU on the one bus that it shows. */
const flat = [4, 5, 6, 7].map((slot) => gpu(`pci0000:00/0000:00:0${slot}.0`, null));
/** Enumerated in turns over two sockets. */
const interleaved = [0, 1, 0, 1].map((node, index) =>
  gpu(`pci0000:${index}0/0000:${index}0:01.0/0000:${index}1:00.0`, node),
);

function at(list: readonly Location[], index: number): Location {
  return list[index] ?? null;
}

test.each([
  ["one switch", at(pairs, 0), at(pairs, 1), "PIX"],
  ["two switches of a socket", at(pairs, 0), at(pairs, 2), "NODE"],
  ["two sockets", at(pairs, 3), at(pairs, 4), "SYS"],
  ["one bus of a virtual machine", at(flat, 0), at(flat, 3), "PHB"],
  [
    "a switch below another",
    gpu(
      "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0/0000:04:00.0/0000:05:00.0",
      0,
    ),
    gpu(
      "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:06:00.0/0000:07:00.0/0000:08:00.0",
      0,
    ),
    "PXB",
  ],
  ["one GPU under two drivers", at(pairs, 0), at(pairs, 0), "same"],
  ["nothing known", null, at(pairs, 0), "SYS"],
  ["nothing known of either's node", at(flat, 0), gpu("pci0001:00/0001:00:04.0", null), "SYS"],
])("%s", (_name, a, b, link) => {
  expect([linkBetween(a, b), linkBetween(b, a)]).toEqual([link, link]);
});

test.each([
  ["pairs, groups of 2", pairs, 2, [0, 1, 2, 3, 4, 5, 6, 7]],
  [
    "pairs in another order",
    [0, 4, 2, 6, 1, 5, 3, 7].map((i) => at(pairs, i)),
    2,
    [0, 4, 1, 5, 2, 6, 3, 7],
  ],
  [
    "pairs, groups of 4: a socket each",
    [0, 4, 2, 6, 1, 5, 3, 7].map((i) => at(pairs, i)),
    4,
    [0, 2, 4, 6, 1, 3, 5, 7],
  ],
  ["pairs, a group of 3: a switch and its socket", pairs.slice(3), 3, [1, 2, 3, 0, 4]],
  ["single switches, groups of 4", single, 4, [0, 1, 2, 3, 4, 5, 6, 7]],
  ["interleaved sockets, groups of 2", interleaved, 2, [0, 2, 1, 3]],
  ["interleaved sockets, no groups", interleaved, 1, [0, 1, 2, 3]],
  ["interleaved sockets, one group", interleaved, 4, [0, 1, 2, 3]],
  ["flat", flat, 2, [0, 1, 2, 3]],
  ["nothing known", [null, null, null], 2, [0, 1, 2]],
  ["one GPU twice is no pair", [at(flat, 0), at(flat, 0), at(flat, 1)], 2, [0, 2, 1]],
  ["none", [], 2, []],
])("%s", (_name, locations, groupSize, order) => {
  expect(groupNear(locations, groupSize)).toEqual(order);
});
