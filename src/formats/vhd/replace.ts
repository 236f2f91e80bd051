/** What changes a VHD as a whole: another size, another image beneath, nothing stored at all. */
import { parseUuid } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import type { BackingReference, ImageDevice } from "../format.js";
import { geometryFor } from "./geometry.js";
import type { VhdImage } from "./image.js";
import { EPOCH, LOCATORS, MAX_SIZE, VHD_LOCATOR } from "./layout.js";
import { encodeName, makeLocators } from "./locators.js";

export async function resizeVhd(image: VhdImage, size: number): Promise<void> {
  if (size > MAX_SIZE)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot resize ${image.label} to ${size} bytes: a VHD has up to 2040 GiB (${MAX_SIZE})`,
    );
  const { blockSize } = image.header;
  const before = image.size;
  if (size < before) await clearBehind(image, size);
  await image.replace(
    { currentSize: size, originalSize: size, ...geometryFor(size), creator: "win " }, // by its size, whatever the geometry says
    {},
    { blocks: Math.ceil(size / blockSize) },
  );
}

/** The rest of the block in which the new end lies: it must not come back when the disk grows again. */
async function clearBehind(image: VhdImage, size: number): Promise<void> {
  const { blockSize } = image.header;
  const end = Math.min(Math.ceil(size / blockSize) * blockSize, image.size);
  if (end === size) return;
  const place = await image.table.get(Math.floor(size / blockSize));
  if (place >= 0) await image.file.zero(place + (size % blockSize), end - size);
}

export type NewParent = BackingReference & { readonly device: ImageDevice | null };

export async function setParent(image: VhdImage, parent: NewParent | null): Promise<void> {
  if (!parent) return image.replace({ type: "dynamic" }, NO_PARENT);
  const fields = parentFields(image.label, parent);
  return image.replace({ type: "differencing" }, fields, { locators: (offset) => makeLocators(parent.name, offset) });
}

export const NO_PARENT = {
  parentUuid: new Uint8Array(16),
  parentTimestamp: 0,
  parentName: new Uint8Array(512),
  locators: new Uint8Array(LOCATORS * VHD_LOCATOR.size),
} as const;

/** Throws `UNSUPPORTED` unless the image beneath is a VHD that could be looked at. */
export function parentFields(label: string, { name, format, device }: NewParent) {
  const uuid = format === "vhd" ? device?.image.identity : null;
  if (!uuid)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot lay ${label} over ${JSON.stringify(name)}: it is ${format === "vhd" ? "not there to tell its UUID" : `of format ${format ?? "unknown"}`}, allowed are VHD images that can be opened`,
    );
  return { parentUuid: parseUuid(uuid), parentName: encodeName(name.split("/").at(-1)!) };
}

export async function emptyVhd(image: VhdImage): Promise<void> {
  await image.replace({}, {}, { blocks: image.table.blocks, absent: true });
}

export const secondsSince2000 = (milliseconds: number): number => Math.max(0, Math.floor(milliseconds / 1000) - EPOCH);
