/** A VDI image as a device. */
import type { BlockDevice } from "../../block/device.js";
import type { HostFile } from "../../block/host-file.js";
import { mapDevice } from "../../block/mapped.js";
import { ZERO_GUID } from "../../bytes/guid.js";
import { DiskError } from "../../errors.js";
import type { BackedImage, ResizableImage } from "../extensions.js";
import {
  type BackingReference,
  type ImageDevice,
  type ImageFacts,
  type OpenContext,
  PLAIN_FACTS,
  withFacts,
} from "../format.js";
import { ownExtents } from "../own-extents.js";
import { readHeader } from "./header.js";
import { VdiImage } from "./image.js";
import { VDI_TYPE, type VdiHeader } from "./layout.js";
import { resizeVdi } from "./resize.js";

export async function openVdi(file: HostFile, { gate }: OpenContext): Promise<ResizableImage & BackedImage> {
  const header = await readHeader(file);
  const image = new VdiImage(`vdi ${file.label}`, file, header);
  let parent: Awaited<ReturnType<typeof gate.openByIdentity>> | undefined;
  if (header.type === VDI_TYPE.differencing)
    parent = await gate.openByIdentity({ identity: parentIdentity(header), format: "vdi", from: file });
  image.backing = parent?.image ?? null;
  const device = withFacts(mapDevice(image), () => facts(image.header, parent?.name));
  return Object.assign(device, {
    resize: (size: number) => resizeVdi(image, size),
    ownExtents: (offset: number, length: number) => ownExtents(image, offset, length),
    setBacking: (backing: (BackingReference & { readonly device: ImageDevice | null }) | null) =>
      setBacking(image, backing),
    empty: () => image.empty(),
  });
}

/** What a differencing image writes down of the one beneath: who it is, and that it has not changed since. */
export function identityOf({ uuid, modificationUuid }: VdiHeader): string {
  return `${uuid}/${modificationUuid}`;
}

function parentIdentity({ parentUuid, parentModificationUuid }: VdiHeader): string {
  return `${parentUuid}/${parentModificationUuid}`;
}

/** `parentName`: where the image beneath was found. */
function facts(header: VdiHeader, parentName: string | undefined): ImageFacts {
  const differencing = header.type === VDI_TYPE.differencing;
  const identity = parentIdentity(header);
  return {
    ...PLAIN_FACTS,
    clusterSize: header.blockSize,
    backing: differencing ? { name: parentName ?? identity, format: "vdi", identity } : null,
    identity: identityOf(header),
  };
}

async function setBacking(
  image: VdiImage,
  backing: (BackingReference & { readonly device: ImageDevice | null }) | null,
): Promise<void> {
  if (!backing) {
    const none = { parentUuid: ZERO_GUID, parentModificationUuid: ZERO_GUID };
    return image.rewriteHeader({ ...none, type: VDI_TYPE.dynamic });
  }
  return image.rewriteHeader({ ...parentFields(image.label, backing), type: VDI_TYPE.differencing });
}

/** Throws `UNSUPPORTED` unless the backing image is a VDI that could be looked at: its identity is all that is recorded. */
export function parentFields(
  label: string,
  { name, format, device }: BackingReference & { readonly device: (BlockDevice & Partial<ImageDevice>) | null },
): Pick<VdiHeader, "parentUuid" | "parentModificationUuid"> {
  const identity = format === "vdi" ? device?.image?.identity : undefined;
  const [parentUuid, parentModificationUuid] = identity?.split("/") ?? [];
  if (parentUuid !== undefined && parentModificationUuid !== undefined) return { parentUuid, parentModificationUuid };
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot lay ${label} over ${JSON.stringify(name)}: it is ${format === "vdi" ? "not there to tell its UUID" : `of format ${format ?? "unknown"}`}, allowed are VDI images that can be opened`,
  );
}
