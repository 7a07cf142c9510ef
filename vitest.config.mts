import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { TEST_ADAPTERS_VARIABLE, softwareAdaptersIn } from "./scripts/testAdapters.ts";

// `npm test` probes the machine and names the adapters; a direct `npx vitest` goes by its drivers.
const named = process.env[TEST_ADAPTERS_VARIABLE];
const adapters = named?.split(",").filter(Boolean) ?? softwareAdaptersIn(process.env);

/** One project for a tier of STYLE "suffix", once per adapter, so that a report names the adapter. */
function gpuTier(tier: string): TestProjectInlineConfiguration[] {
  return adapters.map((adapter) => ({
    test: {
      name: `${tier}:${adapter}`,
      include: [`test/**/*.${tier}.test.ts`],
      env: { TANDEM_TEST_ADAPTER: adapter },
      testTimeout: 120_000,
    },
  }));
}

export default defineConfig({
  test: {
    pool: "forks", // Dawn crashes in vitest's thread pool
    maxWorkers: 2,
    passWithNoTests: true,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/**/*.{gpu,multi,web}.test.ts"],
          testTimeout: 20_000,
        },
      },
      ...gpuTier("gpu"),
      ...gpuTier("multi"),
      { test: { name: "web", include: ["test/**/*.web.test.ts"], testTimeout: 120_000 } },
    ],
  },
});
