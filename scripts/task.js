// Starts a development task under Node 24 with all tools installed: `node scripts/task.js test`.
// Every npm script comes through here, so that it works on a bare clone under an older Node.
import { ensureNode } from "../src/cli/launcher/ensureNode.js";

if (await ensureNode()) {
  const { runTask } = await import("./tasks.ts");
  await runTask(process.argv.slice(2));
}
