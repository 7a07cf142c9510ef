import { describe, expect, test } from "vitest";
import { type ServeFlags, serveOptions } from "../../src/cli/serve.ts";

const flags: ServeFlags = {
  host: "127.0.0.1",
  maxQueue: 256,
  maxRequestBytes: 1000,
  drainTimeout: 30,
};

describe("serve's flags", () => {
  test("a model is served under its folder's name at port 8000, open to all", () => {
    const options = serveOptions(flags, "/models/fable-5m");
    expect(options).toMatchObject({ port: 8000, servedModelNames: ["fable-5m"], apiKeys: [] });
    expect(options).toMatchObject({ numReplicas: 1, firstReplica: 0, drainTimeoutMs: 30_000 });
  });

  test.each<[flags: Partial<ServeFlags>, port: number, first: number, count: number]>([
    [{ dataParallelSize: 4 }, 8000, 0, 4],
    [{ dataParallelSize: 4, dataParallelRank: 2 }, 8002, 2, 1],
    [{ dataParallelSize: 4, dataParallelRank: 2, port: 9000 }, 9000, 2, 1],
    [{ dataParallelSize: 4, dataParallelSizeLocal: 2 }, 8000, 0, 2],
    [{ dataParallelSize: 4, dataParallelStartRank: 2 }, 8000, 2, 2],
  ])("%o: port %i, replicas from %i, %i of them", (more, port, firstReplica, numReplicas) => {
    const options = serveOptions({ ...flags, ...more }, "m");
    expect(options).toMatchObject({ port, firstReplica, numReplicas });
  });

  test("tool calls are read with both of vLLM's flags, and neither does anything alone", () => {
    const both = { enableAutoToolChoice: true, toolCallParser: "hermes" } as const;
    expect(serveOptions({ ...flags, ...both }, "m").toolCallParser).toBe("hermes");
    expect(serveOptions(flags, "m").toolCallParser).toBe(null);
    for (const one of [{ enableAutoToolChoice: true }, { toolCallParser: "hermes" }] as const) {
      expect(() => serveOptions({ ...flags, ...one }, "m")).toThrow("with it");
    }
  });

  test.each<Partial<ServeFlags>>([
    { dataParallelRank: 1 },
    { dataParallelSize: 2, dataParallelStartRank: 2 },
    { dataParallelSize: 2, dataParallelSizeLocal: 3 },
  ])("%o is refused with what would do", (more) => {
    expect(() => serveOptions({ ...flags, ...more }, "m")).toThrow("--data-parallel-size");
  });
});
