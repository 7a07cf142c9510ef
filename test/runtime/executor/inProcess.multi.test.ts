import { executorSuite } from "./executor.suite.ts";

executorSuite("inProcess");
