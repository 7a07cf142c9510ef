/** Where the sizes of kernels come from; apart from the rest, which runs in Node only. */

/**
 * off: every kernel's defaults. cached: what an earlier search left on disk, else the defaults. full: the
 * same, after measuring what is not there yet.
 */
export type AutotuneMode = "off" | "cached" | "full";
