/** Several pieces of a long job in flight, with bounded memory. */

/**
 * Takes pieces in order and works on up to `width` of them at once, each by its own lane (0..width-1), so that lanes can
 * keep buffers. The first failure stops the taking; it is thrown when nothing is in flight any more, so that files may be closed.
 */
export async function inFlight<T>(
  width: number,
  pieces: AsyncIterable<T>,
  work: (piece: T, lane: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const iterator = pieces[Symbol.asyncIterator]();
  let stopped = false;
  const lane = async (number: number) => {
    while (!stopped) {
      signal?.throwIfAborted();
      const next = await iterator.next();
      if (next.done) return;
      await work(next.value, number);
    }
  };
  const lanes = Array.from({ length: width }, async (_, number) => {
    try {
      await lane(number);
    } catch (error) {
      stopped = true;
      throw error;
    }
  });
  const results = await Promise.allSettled(lanes);
  await iterator.return?.();
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
