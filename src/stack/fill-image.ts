/** A new image filled with a disk's bytes: in place, or in one pass where its format or compression wants that. */
import { type CopyOptions, type CopyResult, copyDevice } from "../block/copy.js";
import { copyDifferences } from "../block/copy-differences.js";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { isStreaming } from "../formats/extensions.js";
import { diskSize, type NewImage } from "./new-image.js";

export interface FillOptions
  extends Pick<CopyOptions, "signal" | "onProgress" | "detectZeros" | "writeBehind" | "verify"> {
  readonly compress?: boolean;
}

/** Bytes of data that were copied. */
export async function fillImage(source: BlockDevice, image: NewImage, options: FillOptions): Promise<number> {
  const size = diskSize(source.size);
  const { format, file } = image;
  if (isStreaming(format) && (options.compress || format.needsWriter(image.options))) {
    const { copyPacked } = await import("./copy-packed.js");
    const writer = await format.createWriter(file, size, image.options);
    const copied = await copyPacked(source, writer, image.backing?.device ?? null, options);
    await writer.finish();
    if (options.verify) await verifyImage(source, image, options);
    return copied;
  }
  if (options.compress)
    throw new DiskError("UNSUPPORTED", `Cannot compress "${image.path}": ${format.name} images have no compression`, {
      details: { usage: true },
    });
  await format.create(file, size, image.options);
  const target = await image.open();
  try {
    const { copied } = await copyInto(source, target, image, options);
    if (target.writable) await target.flush();
    return copied;
  } finally {
    await target.close();
  }
}

function copyInto(
  source: BlockDevice,
  target: BlockDevice,
  { backing, options: { preallocation } }: NewImage,
  options: FillOptions,
): Promise<Pick<CopyResult, "copied">> {
  if (backing) return copyDifferences(source, backing.device, target, options);
  return copyDevice(source, target, { ...options, targetIsZero: true, ...(preallocation === "full" ? {} : {}) });
}

async function verifyImage(source: BlockDevice, image: NewImage, { signal }: FillOptions): Promise<void> {
  const { compareDevices } = await import("../block/compare.js");
  const copy = await image.open();
  try {
    const { firstDifference } = await compareDevices(source, copy, signal ? { signal } : {});
    if (firstDifference !== null)
      throw new DiskError(
        "IO",
        `Cannot verify ${copy.label}: byte ${firstDifference} is not what ${source.label} has`,
        { details: { offset: firstDifference } },
      );
  } finally {
    await copy.close();
  }
}
