/** A VHD as a device: fixed, dynamic or differencing. */
import type { HostFile } from "../../block/host-file.js";
import { mapDevice } from "../../block/mapped.js";
import { formatUuid } from "../../bytes/guid.js";
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
import { openFixed } from "./fixed.js";
import { readFooters, readHeader } from "./header.js";
import { VhdImage } from "./image.js";
import type { VhdFooter, VhdHeader } from "./layout.js";
import { parentPath } from "./locators.js";
import { emptyVhd, resizeVhd, setParent } from "./replace.js";

export async function openVhd(file: HostFile, context: OpenContext): Promise<ImageDevice> {
  const footers = await readFooters(file);
  if (footers.footer.type === "fixed") return openFixed(file, footers.footer);
  const header = await readHeader(file, footers.footer);
  const image = new VhdImage(`vhd ${file.label}`, file, footers, header);
  const parent = footers.footer.type === "differencing" ? await openParent(file, header, context) : null;
  image.backing = parent?.device ?? null;
  return asDevice(image, parent?.name ?? null);
}

function asDevice(image: VhdImage, parentName: string | null): ResizableImage & BackedImage {
  let name = parentName;
  const device = withFacts(mapDevice(image), () => factsOf(image.footer, image.header, name));
  return Object.assign(device, {
    resize: (size: number) => resizeVhd(image, size),
    ownExtents: (offset: number, length: number) => ownExtents(image, offset, length),
    async setBacking(backing: (BackingReference & { readonly device: ImageDevice | null }) | null) {
      await setParent(image, backing);
      name = backing?.name ?? null;
    },
    empty: () => emptyVhd(image),
  });
}

/** Throws `CORRUPT` when the image there is another one: what is not stored here would come from the wrong disk. */
async function openParent(
  file: HostFile,
  header: VhdHeader,
  { gate }: OpenContext,
): Promise<{ device: ImageDevice; name: string }> {
  const name = await parentPath(file, header);
  if (name === null)
    throw new DiskError("CORRUPT", `Cannot open vhd ${file.label}: it lies over another image and does not say which`);
  const device = await gate.openBacking({ name, format: "vhd", from: file });
  const [expected, found] = [formatUuid(header.parentUuid), device.image.identity];
  if (found === null || found === expected) return { device, name };
  await device.close();
  throw new DiskError(
    "CORRUPT",
    `Cannot open vhd ${file.label}: ${JSON.stringify(name)} has the UUID ${found}, allowed ${expected} (dynamic header, byte 40)`,
  );
}

export function factsOf(footer: VhdFooter, header: VhdHeader | null, parent: string | null): ImageFacts {
  return {
    ...PLAIN_FACTS,
    clusterSize: header?.blockSize ?? null,
    backing: parent === null ? null : { name: parent, format: "vhd" },
    identity: formatUuid(footer.uuid),
  };
}
