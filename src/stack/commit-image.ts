/**
 * An overlay's own bytes written into the image beneath it.
 *
 * Order: the backing image takes everything, flush, then the overlay gives its own bytes up. A cut before that leaves an
 * overlay that shows what it showed, and can be committed again.
 */
import { type CopyResult, copyDevice } from "../block/copy.js";
import { DiskError } from "../errors.js";
import { type BackedImage, isBacked, isResizable } from "../formats/extensions.js";
import type { ImageDevice } from "../formats/format.js";
import { findByIdentity, gatePath } from "./open-gate.js";
import { openImage } from "./open-image.js";

export interface CommitOptions {
  readonly format?: string;
  readonly allowBacking?: boolean;
  /** The overlay keeps its bytes, as with qemu-img's -d: it is going to be deleted. */
  readonly keep?: boolean;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Committed extends Pick<CopyResult, "copied" | "zeroed"> {
  readonly backing: string;
  readonly emptied: boolean;
}

export async function commitImage(path: string, options: CommitOptions): Promise<Committed> {
  const { format, dryRun = false, keep = false, signal, onProgress } = options;
  // Sealed: what the overlay holds itself is read without the images beneath, which are not open twice then.
  const overlay = await openImage(path, { writable: !dryRun, sealed: true, ...(format ? { format } : {}) });
  try {
    const image = backedImage(path, overlay.image!);
    const { backing } = image.image;
    if (!backing)
      throw new DiskError("UNSUPPORTED", `Cannot commit ${image.label}: it has no backing file`, {
        details: { usage: true },
      });
    const { name, format, identity } = backing;
    const beneath = identity
      ? await findByIdentity(identity, format ?? "", overlay.file!, options)
      : gatePath(name, overlay.file!, options);
    const target = await openImage(beneath, {
      writable: !dryRun,
      ...(backing.format ? { format: backing.format } : {}),
      ...(options.allowBacking ? { allowBacking: true } : {}),
    });
    try {
      const device = target.image!;
      await fit(image, device, dryRun);
      if (dryRun) return { backing: beneath, copied: await ownBytes(image), zeroed: 0, emptied: false };
      const { copied, zeroed } = await copyDevice(image, device, {
        length: Math.min(image.size, device.size),
        parts: ownParts(image),
        ...(signal ? { signal } : {}),
        ...(onProgress ? { onProgress } : {}),
      });
      await device.flush();
      if (!keep) {
        await image.empty();
        await image.flush();
      }
      return { backing: beneath, copied, zeroed, emptied: !keep };
    } finally {
      await target.whole.close();
    }
  } finally {
    await overlay.whole.close();
  }
}

export function backedImage(path: string, image: ImageDevice): BackedImage {
  if (isBacked(image)) return image;
  throw new DiskError("UNSUPPORTED", `Cannot use "${path}" as an overlay: images of its format have no backing file`, {
    details: { usage: true },
  });
}

/** The backing image shows all that the overlay shows. */
async function fit(overlay: ImageDevice, backing: ImageDevice, dryRun: boolean): Promise<void> {
  if (overlay.size <= backing.size) return;
  if (!isResizable(backing))
    throw new DiskError(
      "NO_SPACE",
      `Cannot commit ${overlay.label}: it has ${overlay.size} bytes, ${backing.label} only ${backing.size} and cannot grow`,
    );
  if (!dryRun) await backing.resize(overlay.size);
}

async function* ownParts(image: BackedImage): AsyncGenerator<{ offset: number; length: number }> {
  for await (const { offset, length, own } of image.ownExtents(0, image.size)) if (own) yield { offset, length };
}

async function ownBytes(image: BackedImage): Promise<number> {
  let bytes = 0;
  for await (const { length } of ownParts(image)) bytes += length;
  return bytes;
}
