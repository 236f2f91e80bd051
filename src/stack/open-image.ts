/** An image file or block device of the host as a disk: locked, and of the format that its name or `-f` says. */
import { type FileDevice, openFileDevice } from "../block/file.js";
import { chooseFormat, type FormatChoice, HEAD_SIZE, refuseLookalike } from "../formats/registry.js";
import type { OpenDisk, OpenDiskOptions } from "./disk.js";
import { openContext, sealedContext } from "./open-gate.js";

export async function openImage(
  path: string,
  options: OpenDiskOptions,
): Promise<Pick<OpenDisk, "whole" | "format" | "file" | "image">> {
  const { writable = false, forceShare = false, shared = false, direct = false } = options;
  if (writable && !options.moving)
    (await import("./cut-move.js")).refuseCutMove(path, `open ${JSON.stringify(path)} for writing`);
  const choice = chooseFormat(path, options.format);
  const { format } = choice;
  const file = await openFileDevice(path, {
    writable,
    forceShare: forceShare && !writable,
    part: shared,
    direct,
  });
  try {
    await refuseUnsure(file, choice);
    const context = options.sealed ? sealedContext() : openContext({ ...options, forceShare }, file.file.identity);
    const image = await format.open(file, context);
    return { whole: image, image, format: format.name, file };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A file whose name does not say its format, and whose contents look like one that is not raw. */
export async function refuseUnsure(file: FileDevice, { unsure }: FormatChoice): Promise<void> {
  if (!unsure || file.file.isBlockDevice) return;
  const head = new Uint8Array(Math.min(HEAD_SIZE, file.size));
  await file.read(0, head);
  refuseLookalike(file.path, head);
}
