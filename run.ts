// Entry point: `node run.ts "Once upon a time"`. Node 20 loads this file as CommonJS JavaScript, so
// it holds no types and no import statement; ensureNode.js then starts it again under Node 24.
void import("./src/cli/launcher/ensureNode.js")
  .then(({ ensureNode }) => ensureNode())
  .then(async (isNewEnough) => {
    if (!isNewEnough) return; // a newer Node has run the command
    const { launch } = await import("./src/cli/launcher/launch.ts");
    await launch(process.argv.slice(2));
  });
