import fc from "fast-check";
import { expect, test } from "vitest";
import { Tracer, type TraceSpan } from "../../../src/common/trace.ts";
import { chromeTrace, inLanes } from "../../../src/runtime/trace/chromeTrace.ts";
import { trackName, trackOf, trackOrder } from "../../../src/runtime/trace/tracks.ts";
import { readTrace } from "../../support/readTrace.ts";

const spans = fc.array(
  fc
    .tuple(fc.nat(30), fc.nat(10))
    .map(([beginMs, ms]): TraceSpan => ({ track: "t", name: "s", beginMs, endMs: beginMs + ms })),
);

test("in a lane, spans lie inside or beside each other, and none is lost", () => {
  fc.assert(
    fc.property(spans, (given) => {
      const lanes = inLanes(given);
      expect(lanes.flat()).toHaveLength(given.length);
      for (const lane of lanes) {
        for (const [i, a] of lane.entries()) {
          for (const b of lane.slice(i + 1)) {
            const isBeside = b.beginMs >= a.endMs;
            const isInside = b.beginMs >= a.beginMs && b.endMs <= a.endMs;
            expect(isBeside || isInside).toBe(true);
          }
        }
      }
    }),
  );
});

test("a process a rank, a thread a track, microseconds from the start", () => {
  const span = { track: "GPU", name: "linear", beginMs: 102, endMs: 102.5, args: { step: 3 } };
  const host = { track: "host", name: "encode", beginMs: 101, endMs: 101.25 };
  const ranks = ["rank 0", "rank 1"].map((name) => ({ name, spans: [span, host], numDropped: 0 }));
  const text = [...chromeTrace(ranks, 100)].join("");
  const trace = readTrace(text);
  expect(trace.processes).toEqual(["rank 0", "rank 1"]);
  expect(trace.of("rank 1", "GPU")).toMatchObject([
    { name: "linear", ts: 2000, dur: 500, args: { step: 3 }, tid: "1.2" },
  ]);
  expect(trace.of("rank 0", "host")).toMatchObject([{ ts: 1000, dur: 250, tid: "0.1" }]);
});

test("a trace of nothing is a trace", () => {
  expect(readTrace([...chromeTrace([], 0)].join("")).spans).toEqual([]);
});

test("tracks go from the whole to its parts, a micro-batch's beside the first's", () => {
  const given = ["GPU 1", "GPU", "operations 1", "steps", "load", "operations", "other", "host"];
  expect(given.sort((a, b) => trackOrder(a) - trackOrder(b))).toEqual(
    "load,steps,host,operations,operations 1,GPU,GPU 1,other".split(","),
  );
  expect([trackOf("tp"), trackOf("tp/1"), trackOf("world")]).toEqual([
    trackName("operations", 0),
    trackName("operations", 1),
    "readback",
  ]);
});

test("a tracer keeps its newest spans and counts the others", () => {
  const tracer = new Tracer("rank 0", 10);
  for (let i = 0; i < 27; i++) tracer.span("host", String(i), i, { endMs: i + 1 });
  const { spans: kept, numDropped } = tracer.process();
  expect(kept.map(({ name }) => name)).toEqual("17,18,19,20,21,22,23,24,25,26".split(","));
  expect(numDropped).toBe(17);
  const text = [...chromeTrace([{ ...tracer.process() }], 0)].join("");
  expect(readTrace(text).processes).toEqual(["rank 0 (without its first 17 spans)"]);
});
