import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

/**
 * The import table of docs/architecture.md, turned around: the folders that each folder may not
 * import. A name is matched as a segment of the relative import path.
 */
const FORBIDDEN_IMPORTS = {
  "src/common": [
    "device",
    "kernels",
    "collectives",
    "models",
    "runtime",
    "server",
    "cluster",
    "cli",
  ],
  "src/device": ["kernels", "collectives", "models", "runtime", "server", "cluster", "cli"],
  "src/kernels": ["collectives", "models", "runtime", "server", "cluster", "cli"],
  "src/collectives": ["models", "runtime", "server", "cluster", "cli"],
  models: ["runtime", "server", "cluster", "cli"],
  "src/runtime": ["server", "cluster", "cli"],
  "src/server": ["device", "kernels", "collectives", "models", "cluster", "cli"],
  "src/cluster": ["device", "kernels", "collectives", "models", "server", "cli"],
  "src/cli": ["device", "kernels", "collectives", "models"],
};

/** The only files that may import `node:*` or `webgpu`; all others also run in a page. */
const PLATFORM_FILES = [
  "**/*Node.ts", // the Node half of a pair, as openNode.ts beside openBrowser.ts
  "**/*Node.d.ts",
  "src/collectives/transport/tcp.ts",
  "src/runtime/executor/workerThreads.ts",
  "src/runtime/executor/rankWorker.ts",
  "src/cli/**",
  "src/server/**",
  "src/cluster/**",
];

const PLATFORM_IMPORTS = {
  regex: "^(node:|webgpu$|(fs|path|os|net|url|worker_threads|child_process)(/|$))",
  message: "Only the platform files listed in eslint.config.mjs import Node or Dawn.",
};

/** Two entries, since a later entry replaces a rule's options: the folder, then its platform files. */
function importTable(folder, forbidden) {
  const layering = {
    regex: `^\\.\\.?/(.*/)?(${forbidden.join("|")})/`,
    message: `${folder} may not import this folder; see the import table in docs/architecture.md.`,
  };
  const restrict = (patterns) => ({ "no-restricted-imports": ["error", { patterns }] });
  const all = `${folder}/**/*.{ts,js}`;
  return [
    { files: [all], rules: restrict([layering, PLATFORM_IMPORTS]) },
    { files: PLATFORM_FILES.map((file) => [all, file]), rules: restrict([layering]) },
  ];
}

export default defineConfig(
  globalIgnores([
    "node_modules/",
    "docs/api/",
    "models/checkpoints/",
    "test/fixtures/",
    "coverage/",
  ]),
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  {
    files: ["**/*.{ts,mts,js}"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/explicit-module-boundary-types": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-restricted-syntax": [
        "error",
        { selector: "ExportDefaultDeclaration", message: "Export by name." },
      ],
      eqeqeq: "error",
      "max-lines": ["error", 300],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
    },
  },
  // Test bodies and their describe() callbacks are lists, not logic.
  { files: ["test/**", "bench/**"], rules: { "max-lines-per-function": "off" } },
  // A configuration file's default export is what its tool reads.
  { files: ["*.config.mts"], rules: { "no-restricted-syntax": "off" } },
  // JavaScript carries its types in JSDoc, which this rule does not read.
  { files: ["**/*.js"], rules: { "@typescript-eslint/explicit-module-boundary-types": "off" } },
  ...Object.entries(FORBIDDEN_IMPORTS).flatMap(([folder, forbidden]) =>
    importTable(folder, forbidden),
  ),
);
