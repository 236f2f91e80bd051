/** An empty raw image: a size, and on request space for it. */
import type { HostFile } from "../../block/host-file.js";
import type { CreateOptions } from "../format.js";

/** Between two looks at the signal and two reports of progress. */
const PIECE = 64 << 20;

export async function createRaw(file: HostFile, size: number, options: CreateOptions): Promise<void> {
  await file.resize(size);
  if (options.preallocation === "off") return;
  const zeros = options.preallocation === "full" ? new Uint8Array(1 << 20) : null;
  for (let offset = 0; offset < size; offset += PIECE) {
    options.signal?.throwIfAborted();
    const length = Math.min(PIECE, size - offset);
    // Reserved also when zeros follow: a file system that is too small says so before minutes of writing.
    await file.allocate(offset, length);
    if (zeros)
      for (let at = 0; at < length; at += zeros.length)
        await file.write(offset + at, zeros.subarray(0, Math.min(zeros.length, length - at)));
    options.onProgress?.(offset + length, size);
  }
}
