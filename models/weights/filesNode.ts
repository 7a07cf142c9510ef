/** The FileSource of Node, and the one way that Tandem writes a file. */
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { InputError, messageOf } from "../../src/common/errors.ts";
import type { FileSource } from "./files.ts";

/** Reads from the disk. A file is open only while a read runs, so nothing needs closing. */
export const nodeFiles: FileSource = {
  exists: async (path) =>
    stat(path).then(
      (found) => found.isFile(),
      () => false,
    ),
  size: async (path) => (await attempt(path, "read", () => stat(path))).size,
  read: async (path, begin, end) =>
    attempt(path, "read", async () => {
      const bytes = new Uint8Array(end - begin);
      await readRange(path, begin, bytes);
      return bytes;
    }),
  readInto: async (path, begin, into) => attempt(path, "read", () => readRange(path, begin, into)),
  readText: async (path) => attempt(path, "read", () => readFile(path, "utf8")),
};

async function readRange(path: string, begin: number, into: Uint8Array): Promise<void> {
  const handle = await open(path, "r");
  try {
    let filled = 0;
    while (filled < into.byteLength) {
      const wanted = into.byteLength - filled;
      const { bytesRead } = await handle.read(into, filled, wanted, begin + filled);
      if (bytesRead === 0) {
        const expected = `${begin + into.byteLength} bytes`;
        throw new InputError({ what: path, expected, got: begin + filled });
      }
      filled += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

/**
 * Writes beside the target and renames, so that a reader sees the old file or the new one and a
 * failure leaves nothing behind.
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  await attempt(path, "write", async () => {
    try {
      const handle = await open(temporary, "wx");
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  });
}

/** Turns the system's errors into a line that names the file. */
async function attempt<T>(path: string, verb: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError({ what: path, expected: `a file to ${verb}`, got: messageOf(error) });
  }
}
