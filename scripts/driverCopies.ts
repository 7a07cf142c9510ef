/**
 * Copies of the lavapipe driver under file names of their own: adapters that are equal by name, UUID and
 * all else, as several GPUs of one make are by name, on a machine that has none.
 */
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join } from "node:path";
import { installedDrivers } from "../src/common/vulkanDriversNode.ts";

const LIBRARY_FOLDERS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
];

interface DriverManifest {
  readonly file_format_version: string;
  readonly ICD: { readonly library_path: string; readonly api_version: string };
}

export interface DriverCopies {
  /** For VK_ICD_FILENAMES. */
  readonly manifests: readonly string[];
  readonly libraries: readonly string[];
  remove(): void;
}

function findLibrary(manifest: string, path: string): string | undefined {
  if (isAbsolute(path)) return path;
  const folders = path.includes("/") ? [dirname(manifest)] : LIBRARY_FOLDERS;
  return folders.map((folder) => join(folder, path)).find((file) => existsSync(file));
}

/** undefined where lavapipe is not installed. */
export function copyLavapipe(numCopies: number): DriverCopies | undefined {
  const manifest = installedDrivers(process.env).find((file) => /lvp_icd[^/]*\.json$/.test(file));
  if (manifest === undefined) return undefined;
  const stored = JSON.parse(readFileSync(manifest, "utf8")) as DriverManifest;
  const library = findLibrary(manifest, stored.ICD.library_path);
  if (library === undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "tandem-drivers-"));
  const copies = Array.from({ length: numCopies }, (_, index) => {
    const copy = join(folder, `copy${index}-${basename(library)}`); // the loader takes no link: same file
    copyFileSync(library, copy);
    const description = { ...stored, ICD: { ...stored.ICD, library_path: copy } };
    const file = join(folder, `lvp_icd.${index}.json`);
    writeFileSync(file, JSON.stringify(description));
    return { copy, file };
  });
  return {
    manifests: copies.map(({ file }) => file),
    libraries: copies.map(({ copy }) => copy),
    remove: () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
