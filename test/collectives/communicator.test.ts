import { communicatorSuite } from "./communicator.suite.ts";
import { hostMember, type OnEveryMember } from "./support/members.ts";
import { onEveryRank, WORLDS } from "./support/worlds.ts";

for (const [name, makeWorld] of Object.entries(WORLDS)) {
  const everywhere: OnEveryMember = (worldSize, body, timeoutMs) =>
    onEveryRank(makeWorld, worldSize, (host) => body(hostMember(host)), timeoutMs);
  communicatorSuite(`host memory over ${name}`, everywhere, { maxWorldSize: 8, numRuns: 30 });
}
