/**
 * Preloaded (`node --import`) into a server and its rank threads: on SIGUSR2 the first rank thread that
 * was started dies of an uncaught exception. A restarted one has a later number, and lives.
 */
import { isMainThread, threadId } from "node:worker_threads";

const CHANNEL = "lose thread";
const FIRST_THREAD = 1;

const channel = new BroadcastChannel(CHANNEL);
(channel as unknown as { unref(): void }).unref();
if (isMainThread) {
  process.on("SIGUSR2", () => {
    channel.postMessage("die");
  });
} else if (threadId === FIRST_THREAD) {
  channel.onmessage = (): void => {
    setImmediate(() => {
      throw new Error("a planted exception");
    });
  };
}
