/**
 * An overlay put on another backing image.
 *
 * Safe: where both backing images differ and the overlay has nothing of its own, it gets the old one's bytes first; flush;
 * then the new name is written. What the overlay shows is the same after a cut at any write. Unsafe: only the name.
 */
import { copyDifferences } from "../block/copy-differences.js";
import type { BlockDevice } from "../block/device.js";
import { nullDevice } from "../block/null.js";
import { DiskError } from "../errors.js";
import type { BackedImage } from "../formats/extensions.js";
import type { BackingReference, ImageDevice } from "../formats/format.js";
import { chooseFormat } from "../formats/registry.js";
import { backedImage } from "./commit-image.js";
import type { OpenDisk } from "./disk.js";
import { pathOf } from "./open-gate.js";
import { openImage } from "./open-image.js";

export interface RebaseOptions {
  readonly format?: string;
  /** Null: none, the overlay becomes an image of its own. As it will stand in the image. */
  readonly backing: { readonly name: string; readonly format?: string } | null;
  readonly unsafe?: boolean;
  readonly allowBacking?: boolean;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Bytes that the overlay took over. */
export async function rebaseImage(path: string, options: RebaseOptions): Promise<{ copied: number }> {
  const { format, unsafe = false, dryRun = false, allowBacking = false } = options;
  const overlay = await openImage(path, {
    writable: !dryRun,
    sealed: unsafe,
    allowBacking,
    ...(format ? { format } : {}),
  });
  try {
    const image = backedImage(path, overlay.image!);
    const reference = newReference(path, options, overlay.file!);
    const beneath = unsafe || !reference ? null : await openBeneath(reference, overlay.file!, options);
    try {
      const copied = unsafe || dryRun ? 0 : await takeOver(image, beneath ?? nullDevice(image.size), options);
      if (!dryRun) {
        await image.flush();
        await image.setBacking(reference && { ...reference, device: beneath });
        await image.flush();
      }
      return { copied };
    } finally {
      await beneath?.close();
    }
  } finally {
    await overlay.whole.close();
  }
}

async function takeOver(image: BackedImage, beneath: BlockDevice, options: RebaseOptions): Promise<number> {
  const { signal, onProgress } = options;
  const { copied } = await copyDifferences(image, beneath, image, {
    ranges: sharedRanges(image),
    ...(signal ? { signal } : {}),
    ...(onProgress ? { onProgress } : {}),
  });
  return copied;
}

/** Where the overlay has nothing of its own. */
async function* sharedRanges(image: BackedImage): AsyncGenerator<{ offset: number; length: number }> {
  for await (const { offset, length, own } of image.ownExtents(0, image.size)) if (!own) yield { offset, length };
}

function newReference(
  path: string,
  { backing }: RebaseOptions,
  file: NonNullable<OpenDisk["file"]>,
): (BackingReference & { readonly format: string }) | null {
  if (!backing) return null;
  const choice = chooseFormat(pathOf("backing file", backing.name, file), backing.format);
  if (!choice.unsure) return { name: backing.name, format: choice.format.name };
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot rebase "${path}": the name ${JSON.stringify(backing.name)} does not say its format, allowed with -F FORMAT`,
    { details: { usage: true } },
  );
}

async function openBeneath(
  { name, format }: BackingReference & { readonly format: string },
  file: NonNullable<OpenDisk["file"]>,
  { allowBacking = false }: RebaseOptions,
): Promise<ImageDevice> {
  const { image } = await openImage(pathOf("backing file", name, file), { format, allowBacking });
  return image!;
}
