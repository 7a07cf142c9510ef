/** Which of several drivers' libraries this process has run. */
import { readFileSync } from "node:fs";

/**
 * KiB of each library's code that this process has in memory. Listing adapters brings in some, opening
 * a device and running a shader on it about 2 MiB more: so this tells which copy a device is of.
 */
export function residentCode(libraries: readonly string[]): number[] {
  const mappings = readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[\da-f]+-[\da-f]+ )/);
  return libraries.map((library) => {
    const code = mappings.filter(
      (text) => / r-xp .*\n/.test(text) && text.includes(` ${library}\n`),
    );
    const sizes = code.map((text) => Number(/^Rss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0));
    return sizes.reduce((sum, size) => sum + size, 0);
  });
}
