/** What every transport must do; see src/collectives/transport/transport.ts for the contract. */
import { afterEach, describe, expect, test } from "vitest";
import { GroupTransport } from "../../../src/collectives/transport/groupTransport.ts";
import type { Chunk, Guard, Transport } from "../../../src/collectives/transport/transport.ts";
import { deadlineGuard } from "../../../src/collectives/watchdog/operationGuard.ts";
import { randomBytes } from "../support/data.ts";
import { closeAll, type MakeWorld } from "../support/worlds.ts";

const SIZES = [0, 1, 3, 63, 64, 65, 128, 129, 1000, 5001];

async function receive(transport: Transport, from: number, tag: number): Promise<Uint8Array> {
  let received = new Uint8Array(0);
  const keep = ({ bytes, offset, totalBytes }: Chunk): void => {
    if (offset === 0) received = new Uint8Array(totalBytes);
    received.set(bytes, offset);
  };
  await transport.recv(from, tag, keep, guardOf(transport));
  return received;
}

function guardOf({ control }: Transport, timeoutMs = 3000): Guard {
  return deadlineGuard(control, timeoutMs);
}

const message = (tag: number, signature = 7): { tag: number; signature: number } => ({
  tag,
  signature,
});

export function transportSuite(name: string, makeWorld: MakeWorld): void {
  let worlds: Transport[][] = [];
  const newWorld = async <T extends Transport[]>(worldSize: T["length"]): Promise<T> => {
    const transports = (await makeWorld(worldSize)) as T;
    worlds.push(transports);
    return transports;
  };
  const pair = (): Promise<[Transport, Transport]> => newWorld<[Transport, Transport]>(2);
  const trio = (): Promise<[Transport, Transport, Transport]> =>
    newWorld<[Transport, Transport, Transport]>(3);

  afterEach(() => {
    worlds.forEach(closeAll);
    worlds = [];
  });

  describe(name, () => {
    test.each(SIZES)("send moves %i bytes", async (size) => {
      const [a, b] = await pair();
      const bytes = randomBytes(size, size);
      const sent = a.send(1, message(1), bytes, guardOf(a));
      expect(await receive(b, 0, 1)).toEqual(bytes);
      await sent;
    });

    test.each(SIZES)("publish moves %i bytes to each reader and nobody else", async (size) => {
      const [a, b, c] = await trio();
      const bytes = randomBytes(size, size);
      const published = a.publish(message(1), bytes, [1, 2], guardOf(a));
      const parts = await Promise.all([receive(b, 0, 1), receive(c, 0, 1), published]);
      expect(parts.slice(0, 2)).toEqual([bytes, bytes]);
      const toB = a.publish(message(2), bytes, [1], guardOf(a));
      await expect(c.recv(0, 2, () => undefined, guardOf(c, 60))).rejects.toThrow("rank 0");
      await Promise.all([receive(b, 0, 2), toB]);
    });

    test("chunks come in order, whole, with the sender's signature", async () => {
      const [a, b] = await pair();
      const sent = a.send(1, message(1, 1234), randomBytes(1001, 1), guardOf(a));
      let next = 0;
      const check = ({ bytes, offset, totalBytes, signature }: Chunk): void => {
        expect([offset, totalBytes, signature]).toEqual([next, 1001, 1234]);
        next += bytes.length;
      };
      await b.recv(0, 1, check, guardOf(b));
      await sent;
      expect(next).toBe(1001);
    });

    test("messages of a tag arrive in the order sent", async () => {
      const [a, b] = await pair();
      const sent = (async (): Promise<void> => {
        for (let i = 0; i < 20; i++) await a.send(1, message(1), Uint8Array.of(i), guardOf(a));
      })();
      for (let i = 0; i < 20; i++) expect(await receive(b, 0, 1)).toEqual(Uint8Array.of(i));
      await sent;
    });

    test("messages of different tags may be taken in any order", async () => {
      const [a, b] = await pair();
      const sent = [1, 2].map((tag) => a.send(1, message(tag), Uint8Array.of(tag), guardOf(a)));
      expect(await receive(b, 0, 2)).toEqual(Uint8Array.of(2));
      expect(await receive(b, 0, 1)).toEqual(Uint8Array.of(1));
      await Promise.all(sent);
    });

    test("both directions move long messages at once", async () => {
      const [a, b] = await pair();
      const [fromA, fromB] = [randomBytes(5000, 1), randomBytes(5000, 2)];
      const [, , atA, atB] = await Promise.all([
        a.send(1, message(1), fromA, guardOf(a)),
        b.send(0, message(1), fromB, guardOf(b)),
        receive(a, 1, 1),
        receive(b, 0, 1),
      ]);
      expect([atA, atB]).toEqual([fromB, fromA]);
    });

    test("long messages of different tags share the way without mixing", async () => {
      const [a, b] = await pair();
      const messages = [1, 2, 3].map((tag) => randomBytes(700 + tag, tag));
      const sent = messages.map((bytes, i) => a.send(1, message(i + 1), bytes, guardOf(a)));
      const received = await Promise.all([1, 2, 3].map((tag) => receive(b, 0, tag)));
      expect(received).toEqual(messages);
      await Promise.all(sent);
    });

    test("short messages pass a long one that nobody takes yet", async () => {
      const [a, b] = await pair();
      const [long, short] = [randomBytes(5001, 1), randomBytes(50, 2)];
      const moved = [
        a.publish(message(1), long, [1], guardOf(a)),
        a.send(1, message(2), long, guardOf(a)),
        a.publish(message(3), short, [1], guardOf(a)),
        a.send(1, message(4), short, guardOf(a)),
      ];
      for (const tag of [4, 3]) expect(await receive(b, 0, tag)).toEqual(short);
      for (const tag of [2, 1]) expect(await receive(b, 0, tag)).toEqual(long);
      await Promise.all(moved);
    });

    test("bytes may be reused once send and publish have resolved", async () => {
      const [a, b] = await pair();
      const bytes = new Uint8Array(300);
      const received: Promise<Uint8Array>[] = [];
      for (let round = 1; round <= 6; round++) {
        received.push(receive(b, 0, round));
        bytes.fill(round);
        if (round % 2 === 0) await a.send(1, message(round), bytes, guardOf(a));
        else await a.publish(message(round), bytes, [1], guardOf(a));
        bytes.fill(0);
      }
      const firsts = (await Promise.all(received)).map((part) => [part[0], part[299]]);
      expect(firsts).toEqual([1, 2, 3, 4, 5, 6].map((round) => [round, round]));
    });

    test("a late receiver finds the bytes as they were when send was called", async () => {
      const [a, b] = await pair();
      const [bytes, original] = [randomBytes(40, 1), randomBytes(40, 1)];
      const sent = a.send(1, message(1), bytes, guardOf(a)).then(() => bytes.fill(0));
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(await receive(b, 0, 1)).toEqual(original);
      await sent;
    });

    test("an error in the receiver's code reaches the receiver", async () => {
      const [a, b] = await pair();
      const sent = a.send(1, message(1), new Uint8Array(1), guardOf(a));
      const fail = (): void => {
        throw new RangeError("no room");
      };
      await expect(b.recv(0, 1, fail, guardOf(b))).rejects.toThrow("no room");
      await sent;
    });

    test("a wait ends at its deadline", async () => {
      const [a] = await pair();
      const begin = performance.now();
      await expect(a.recv(1, 1, () => undefined, guardOf(a, 60))).rejects.toThrow(
        "rank 1 did not answer within 60 ms",
      );
      expect(performance.now() - begin).toBeLessThan(5000); // on a busy machine
    });

    test("abort ends the waits of all ranks, with its cause, and later calls", async () => {
      const [a, b, c] = await trio();
      const waits = [
        a.recv(1, 1, () => undefined, guardOf(a)),
        c.recv(1, 1, () => undefined, guardOf(c)),
      ];
      b.abort({ rank: 1, reason: "out of paper" });
      b.abort({ rank: 0, reason: "a later cause" });
      await Promise.all(
        waits.map((wait) => expect(wait).rejects.toThrow("aborted by rank 1: out of paper")),
      );
      await expect(b.send(0, message(1), new Uint8Array(1), guardOf(b))).rejects.toThrow("paper");
    });

    test("close ends the rank's own waits and tells the others", async () => {
      const [a, b] = await pair();
      const wait = b.recv(0, 1, () => undefined, guardOf(b));
      b.close();
      await expect(wait).rejects.toThrow("rank 1 closed");
      await expect.poll(() => a.control.progress(1, 0).state).toBe("left");
      expect(a.control.progress(1, 0).state).toBe("left");
    });

    test("a group's view translates ranks and keeps its tags apart", async () => {
      const [, b, c] = await trio();
      const [bView, cView] = [new GroupTransport(b, [2, 1], 1), new GroupTransport(c, [2, 1], 1)];
      expect([bView.rank, cView.rank, bView.worldSize]).toEqual([1, 0, 2]);
      const sent = [
        b.send(2, message(5), Uint8Array.of(1), guardOf(b)),
        bView.send(0, message(5), Uint8Array.of(2), guardOf(b)),
      ];
      expect(await receive(cView, 1, 5)).toEqual(Uint8Array.of(2));
      expect(await receive(c, 1, 5)).toEqual(Uint8Array.of(1));
      await Promise.all(sent);
    });
  });
}
