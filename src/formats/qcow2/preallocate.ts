/** Places for all of a new disk: tables complete, data reserved or zeroed as asked. */
import type { CreateOptions } from "../format.js";
import type { OpenedImage } from "./open.js";

/** Between two looks at the signal and two reports of progress. */
const PIECE = 64 << 20;

export async function preallocate(
  { image, placer }: OpenedImage,
  from: number,
  { preallocation, signal, onProgress }: Pick<CreateOptions, "preallocation" | "signal" | "onProgress">,
): Promise<void> {
  if (preallocation === "off") return;
  const zeros = preallocation === "full" ? new Uint8Array(1 << 20) : null;
  for (let offset = from; offset < image.size; ) {
    signal?.throwIfAborted();
    const place = await placer.reserve(offset, Math.min(PIECE, image.size - offset));
    if (preallocation !== "metadata" && !image.dataFile) await image.file.host.allocate(place.offset, place.length);
    if (zeros)
      for (let at = 0; at < place.length; at += zeros.length)
        await place.device.write(place.offset + at, zeros.subarray(0, Math.min(zeros.length, place.length - at)));
    await place.commit();
    offset += place.length;
    onProgress?.(Math.min(offset, image.size), image.size);
  }
}
