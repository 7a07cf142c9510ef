import { goldenSuite, onAllFixtures } from "./golden.suite.ts";

goldenSuite(
  "inProcess",
  onAllFixtures([
    { tpSize: 1, ppSize: 1 },
    { tpSize: 2, ppSize: 1 },
    { tpSize: 3, ppSize: 2 },
  ]),
);
