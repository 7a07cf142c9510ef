/** What each rank's memory goes to, with the arithmetic, as a table and a bar. */
import type { KvPlan, LimitSource, RankMemory } from "../runtime/kvBudget.ts";
import { formatTable } from "./table.ts";

const BAR_CELLS = 24;
const SOURCES: Readonly<Record<LimitSource, string>> = {
  flag: "by --kv-cache-memory-mib",
  measured: "of what was free",
  software: "for the KV cache of software devices",
};

/** A row for each rank, and what the KV cache comes to. */
export function formatMemory({ numBlocks, blockSize, blocksPerSequence, ranks }: KvPlan): string {
  const columns = [
    { title: "rank", isFigure: true },
    { title: "weights", isFigure: true },
    { title: "+ activations", isFigure: true },
    { title: "+ KV cache", isFigure: true },
    { title: "of MiB", isFigure: true },
    { title: "tokens that fit", isFigure: true },
    { title: "█ weights ▓ activations ▒ KV cache" },
  ];
  const rows = ranks.map((memory) => [
    String(memory.rank),
    mib(memory.weightBytes),
    mib(memory.activationBytes),
    mib(memory.kvBytes),
    mib(memory.limitBytes),
    count(memory.maxBlocks * blockSize),
    bar(memory),
  ]);
  const atFullLength = (numBlocks / blocksPerSequence).toFixed(1);
  const [first] = ranks;
  const perToken = (first?.kvBlockBytes ?? 0) / blockSize;
  const source = first === undefined ? "" : `, within the memory ${SOURCES[first.source]}`;
  return [
    `KV cache: ${count(numBlocks)} blocks x ${blockSize} = ${count(numBlocks * blockSize)} tokens, ` +
      `${atFullLength} sequences of full length; ${count(perToken)} bytes a token on rank 0${source}`,
    formatTable(columns, rows),
  ].join("\n");
}

/** Every part that takes anything has a cell. */
function bar({ weightBytes, activationBytes, kvBytes, limitBytes }: RankMemory): string {
  const total = Math.max(limitBytes, weightBytes + activationBytes + kvBytes, 1);
  const cells = (bytes: number): number =>
    bytes === 0 ? 0 : Math.max(1, Math.round((bytes / total) * BAR_CELLS));
  const filled =
    "█".repeat(cells(weightBytes)) +
    "▓".repeat(cells(activationBytes)) +
    "▒".repeat(cells(kvBytes));
  return filled.slice(0, BAR_CELLS).padEnd(BAR_CELLS, "·");
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
const count = (value: number): string => value.toLocaleString("en-US");
