/** Which adapters the GPU tests run on. */

/** Comma-separated substrings of Dawn's adapter names; set by the test task, or by hand. */
export const TEST_ADAPTERS_VARIABLE = "TANDEM_TEST_ADAPTERS";

/** Substrings of Dawn's names of the software adapters, with their drivers' file names. */
export const SOFTWARE_ADAPTERS = {
  llvmpipe: /lvp_icd[^/]*\.json$/,
  SwiftShader: /swiftshader[^/]*\.json$/i,
} as const;

const REMEDIES = {
  llvmpipe:
    "install Mesa's lavapipe 23 or later (Debian 12: mesa-vulkan-drivers of bookworm-backports)",
  SwiftShader: "it is fetched on Linux x64 only",
} as const;

const NAMES = ["llvmpipe", "SwiftShader"] as const;

export interface AdapterSelection {
  readonly adapters: readonly string[];
  /** One line for each set of tests that does not run, with the reason. */
  readonly skipped: readonly string[];
}

/** The software adapters among the found ones; where there is none, the first one found. */
export function selectAdapters(found: readonly string[]): AdapterSelection {
  const isFound = (name: string): boolean => found.some((full) => full.includes(name));
  const software = NAMES.filter(isFound);
  const adapters = software.length > 0 ? software : found.slice(0, 1);
  const skipped = NAMES.filter((name) => !isFound(name)).map(
    (name) => `gpu and multi tests on ${name}: no such adapter; ${REMEDIES[name]}`,
  );
  return { adapters, skipped };
}

/** The software adapters whose Vulkan drivers VK_ICD_FILENAMES lists. */
export function softwareAdaptersIn(
  env: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const drivers = (env["VK_ICD_FILENAMES"] ?? "").split(":");
  return NAMES.filter((name) => drivers.some((file) => SOFTWARE_ADAPTERS[name].test(file)));
}
