/** Where model files come from: a disk (filesNode.ts), or whatever a page supplies. */
import { type InputError, messageOf, type Problem } from "../../src/common/errors.ts";

/** Paths join with "/". Every method but `exists` rejects when the file cannot be read. */
export interface FileSource {
  exists(path: string): Promise<boolean>;
  /** Bytes the file holds. */
  size(path: string): Promise<number>;
  /** Bytes begin to end (end not included); a fresh array that the caller may keep. */
  read(path: string, begin: number, end: number): Promise<Uint8Array>;
  /** Fills all of `into` with the bytes from `begin` on; left out where `read` is all there is. */
  readInto?(path: string, begin: number, into: Uint8Array): Promise<void>;
  /** The whole file as UTF-8. */
  readText(path: string): Promise<string>;
}

export function joinPath(dir: string, name: string): string {
  return dir === "" || dir.endsWith("/") ? dir + name : `${dir}/${name}`;
}

/** A JSON file; one that is no JSON is reported as the caller's kind of error. */
export async function readJson(
  files: FileSource,
  path: string,
  ErrorClass: new (problem: Problem) => InputError,
): Promise<unknown> {
  const text = await files.readText(path);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new ErrorClass({ what: path, expected: "valid JSON", got: messageOf(error) });
  }
}

/** Files held in memory, by path: for tests, and for pages that fetched them already. */
export function memoryFiles(contents: Readonly<Record<string, Uint8Array | string>>): FileSource {
  const bytesOfFile = (path: string): Uint8Array => {
    const content = Object.hasOwn(contents, path) ? contents[path] : undefined;
    if (content === undefined) throw new Error(`${path}: no such file`);
    return typeof content === "string" ? new TextEncoder().encode(content) : content;
  };
  return {
    exists: (path) => Promise.resolve(Object.hasOwn(contents, path)),
    size: async (path) => Promise.resolve(bytesOfFile(path).byteLength),
    read: async (path, begin, end) => Promise.resolve(bytesOfFile(path).slice(begin, end)),
    readText: async (path) => Promise.resolve(new TextDecoder().decode(bytesOfFile(path))),
  };
}
