/** Patience with a limit. */

/** What `work` gives, or undefined once the time is over; the work itself goes on. */
export async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  return await Promise.race([work, timeout]).finally(() => {
    clearTimeout(timer);
  });
}
