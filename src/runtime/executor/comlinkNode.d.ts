/** comlink ships this adapter's types under a name that Node's resolution does not look at. */
declare module "comlink/dist/esm/node-adapter.mjs" {
  import type { Endpoint } from "comlink";
  import type { MessagePort, Worker } from "node:worker_threads";
  const nodeEndpoint: (thread: Worker | MessagePort) => Endpoint;
  export { nodeEndpoint as default };
}
