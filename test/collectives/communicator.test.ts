import { communicatorSuite } from "./communicator.suite.ts";
import { WORLDS } from "./support/worlds.ts";

for (const [name, makeWorld] of Object.entries(WORLDS)) communicatorSuite(name, makeWorld);
