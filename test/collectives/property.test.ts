/**
 * All-reduce and reduce-scatter: any size, any number of ranks, any algorithm, transport and wire: right
 * within the wire's bound, bit-equal on all ranks, the same bits on a second run. About 500 cases; at
 * least 10,000 with TANDEM_TEST_NIGHTLY=1.
 */
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { HostCommunicator } from "../../src/collectives/hostCommunicator.ts";
import { worldGroup } from "../../src/collectives/processGroup.ts";
import { chunkRanges } from "../../src/collectives/segments.ts";
import { ALGORITHMS, type Algorithm } from "../../src/collectives/signature.ts";
import { LoopbackHub } from "../../src/collectives/transport/loopback.ts";
import { SimulatedLink } from "../../src/collectives/transport/simulatedLink.ts";
import type { Transport } from "../../src/collectives/transport/transport.ts";
import { WIRE_FORMATS, type WireFormat } from "../../src/collectives/wire.ts";
import { bitsOf, randomFloats } from "./support/data.ts";
import { reduceBound } from "./support/sums.ts";
import { closeAll, type MakeWorld, ranksOf, WORLDS } from "./support/worlds.ts";

const isNightly = process.env["TANDEM_TEST_NIGHTLY"] === "1";

const PROPERTY_WORLDS: Readonly<Record<string, MakeWorld>> = {
  ...WORLDS,
  "loopback, as on three hosts": (worldSize) => {
    const hub = new LoopbackHub(worldSize, {
      hosts: ranksOf(worldSize).map((rank) => (rank * 5) % 3),
    });
    return ranksOf(worldSize).map((rank) => hub.transport(rank));
  },
  "loopback, reordering": (worldSize) => {
    const hub = new LoopbackHub(worldSize);
    return ranksOf(worldSize).map(
      (rank) => new SimulatedLink(hub.transport(rank), { reorderShare: 0.01, seed: rank + 1 }),
    );
  },
};
const NUM_WORLDS = Object.keys(PROPERTY_WORLDS).length;
const NUM_RUNS = Math.ceil((isNightly ? 10_500 : 500) / NUM_WORLDS);

interface Case {
  readonly worldSize: number;
  readonly length: number;
  readonly algorithm: Algorithm | "auto";
  readonly wire: WireFormat;
  readonly segmentBytes: number;
  readonly seed: number;
}

const lengths = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(0, 1, 2, 7, 8, 9, 31, 33, 255, 257) },
  { weight: 6, arbitrary: fc.nat(3000) },
  { weight: 1, arbitrary: fc.integer({ min: 3000, max: isNightly ? 100_000 : 20_000 }) },
);
const cases: fc.Arbitrary<Case> = fc.record({
  worldSize: fc.integer({ min: 1, max: 8 }),
  length: lengths,
  algorithm: fc.constantFrom(...ALGORITHMS, "auto" as const),
  wire: fc.constantFrom(...WIRE_FORMATS),
  segmentBytes: fc.constantFrom(64, 1000, 4096, 256 * 1024),
  seed: fc.nat(),
});

/** One world a size, kept from case to case: so sequence numbers, slots and connections are used again. */
class Worlds {
  readonly #make: MakeWorld;
  readonly #bySize = new Map<number, Promise<HostCommunicator[]>>();
  readonly #transports: Transport[] = [];

  constructor(make: MakeWorld) {
    this.#make = make;
  }

  async of(worldSize: number): Promise<HostCommunicator[]> {
    const known = this.#bySize.get(worldSize) ?? this.#open(worldSize);
    this.#bySize.set(worldSize, known);
    return known;
  }

  /** After a failure: an aborted world stays aborted, and shrinking needs another. */
  forget(worldSize: number): void {
    this.#bySize.delete(worldSize);
  }

  close(): void {
    closeAll(this.#transports);
  }

  async #open(worldSize: number): Promise<HostCommunicator[]> {
    const transports = await this.#make(worldSize);
    this.#transports.push(...transports);
    return transports.map(
      (transport) => new HostCommunicator(worldGroup(transport), { timeoutMs: 10_000 }),
    );
  }
}

describe.each(Object.entries(PROPERTY_WORLDS))("%s", (_, makeWorld) => {
  const worlds = new Worlds(makeWorld);
  afterAll(() => {
    worlds.close();
  });

  async function everywhere<T>(
    { worldSize }: Case,
    body: (host: HostCommunicator) => Promise<T>,
  ): Promise<T[]> {
    try {
      return await Promise.all((await worlds.of(worldSize)).map(body));
    } catch (error) {
      worlds.forget(worldSize);
      throw error;
    }
  }

  test(`${NUM_RUNS} cases`, { timeout: isNightly ? 900_000 : 60_000 }, async () => {
    const holds = async (example: Case): Promise<void> => {
      const { worldSize, length, algorithm, wire, segmentBytes, seed } = example;
      const inputs = ranksOf(worldSize).map((rank) => randomFloats(length, seed + rank));
      const inputOf = (rank: number): Float32Array => inputs[rank]?.slice() ?? new Float32Array(0);
      const run = (): Promise<Float32Array[]> =>
        everywhere(example, (host) =>
          host.allReduce(inputOf(host.rank), { algorithm, wire, segmentBytes }),
        );
      const results = [...(await run()), ...(await run())];
      const [first = new Float32Array(0)] = results;
      const firstBits = Buffer.from(bitsOf(first).buffer);
      for (const result of results) {
        expect(Buffer.from(bitsOf(result).buffer).equals(firstBits)).toBe(true);
      }
      expect(reduceBound(first, 0, inputs, wire)).toBe("");

      const chunks = await everywhere(example, (host) =>
        host.reduceScatter(inputOf(host.rank), { wire, segmentBytes }),
      );
      chunkRanges(length, worldSize).forEach(({ begin, end }, rank) => {
        const chunk = chunks[rank] ?? new Float32Array(0);
        expect(chunk).toHaveLength(end - begin);
        expect(reduceBound(chunk, begin, inputs, wire)).toBe("");
      });
    };
    const defaults = { segmentBytes: 64, seed: 1 };
    const examples = WIRE_FORMATS.flatMap((wire): [Case][] => [
      [{ worldSize: 8, length: 0, algorithm: "ring", wire, ...defaults }],
      [{ worldSize: 7, length: 1, algorithm: "halvingDoubling", wire, ...defaults }],
      [{ worldSize: 5, length: 33, algorithm: "recursiveDoubling", wire, ...defaults }],
    ]);
    await fc.assert(fc.asyncProperty(cases, holds), { numRuns: NUM_RUNS, examples });
  });
});
