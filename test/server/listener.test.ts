import { afterEach, expect, test } from "vitest";
import { Listener } from "../../src/server/http/listener.ts";

const open: Listener[] = [];
async function listen(host: string, port = 0): Promise<Listener> {
  const listener = await Listener.open(host, port);
  open.push(listener);
  return listener;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((listener) => listener.close()));
});

test("answers 503 with Retry-After until there is something to serve", async () => {
  const listener = await listen("127.0.0.1");
  const early = await fetch(`${listener.url}/health`);
  expect([early.status, early.headers.get("retry-after")]).toEqual([503, "5"]);
  expect(await early.json()).toMatchObject({ error: { code: "loading" } });
  const post = await fetch(`${listener.url}/v1/completions`, { method: "POST", body: "{}" });
  expect(post.status).toBe(503);
  listener.serve(() => new Response("here"));
  const served = await fetch(listener.url);
  expect([await served.text(), served.headers.get("keep-alive")]).toEqual(["here", "timeout=75"]);
});

test("a port in use and a host that is not this machine's are the user's error, by name", async () => {
  const { url } = await listen("127.0.0.1");
  const port = Number(new URL(url).port);
  await expect(listen("127.0.0.1", port)).rejects.toThrow(
    `--port: expected a free port, got ${port} on 127.0.0.1, which is in use`,
  );
  await expect(listen("192.0.2.1")).rejects.toThrow("--host: expected an address of this machine");
  await expect(listen("no.such.host.invalid")).rejects.toThrow("--host");
});
