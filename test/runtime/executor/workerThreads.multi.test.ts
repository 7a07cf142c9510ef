import { executorSuite } from "./executor.suite.ts";

executorSuite("workerThreads");
