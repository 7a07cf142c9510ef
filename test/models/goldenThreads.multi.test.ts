import { goldenSuite } from "./golden.suite.ts";

goldenSuite("workerThreads", [{ fixture: "llama-gqa-tied", layout: { tpSize: 2, ppSize: 2 } }]);
