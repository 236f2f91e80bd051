/** Opening an image with what it names, and as a device. */
import type { BlockDevice } from "../../block/device.js";
import type { HostFile } from "../../block/host-file.js";
import { mapDevice } from "../../block/mapped.js";
import { DiskError } from "../../errors.js";
import type { OpenContext } from "../format.js";
import { ActiveTables } from "./active-tables.js";
import { markBitmapsInUse } from "./bitmaps.js";
import { checkImage } from "./check.js";
import { backingFormatOf, extensionText } from "./header.js";
import type { Qcow2Image } from "./image.js";
import { AUTOCLEAR, EXTENSION, INCOMPATIBLE } from "./layout.js";
import { ClusterLocator } from "./locate.js";
import { openTables } from "./open-tables.js";
import { ClusterPlacer } from "./place.js";
import { ClusterReleaser } from "./release.js";

/** With what it names, through the gate, and ready to be written when the file is writable. When this throws, what it opened is closed. */
export async function openImage(host: HostFile, { gate }: Pick<OpenContext, "gate">): Promise<Qcow2Image> {
  const image = await openTables(host);
  if (host.writable) await prepareWriting(image);
  const { header } = image;
  try {
    if (header.backingFile !== null)
      image.backing = await gate.openBacking({ name: header.backingFile, format: backingFormatOf(header), from: host });
    if (image.hasDataFile) {
      const name = extensionText(header, EXTENSION.dataFile);
      if (name === null)
        throw new DiskError("UNSUPPORTED", `Cannot open ${image.label}: it does not name its data file`);
      image.dataFile = await gate.openExtent({ name, from: host, writable: host.writable });
    }
    return image;
  } catch (error) {
    await image.backing?.close();
    throw error;
  }
}

/** What a writer owes before its first write: see the bits of the header. */
async function prepareWriting(image: Qcow2Image): Promise<void> {
  if (image.header.incompatible & INCOMPATIBLE.corrupt) throw refuseCorrupt(image, "it is marked corrupt");
  await image.loadRefcounts();
  if (image.header.incompatible & INCOMPATIBLE.dirty) {
    const { corruptions, problems } = await checkImage(image, { repair: "all", dryRun: false });
    if (corruptions > 0) throw refuseCorrupt(image, `it was not closed, and ${problems[0]}`);
  }
  const known = AUTOCLEAR.bitmaps | AUTOCLEAR.rawDataFile;
  if (image.header.autoclear & ~known) await image.writeHeader({ autoclear: image.header.autoclear & known });
  await markBitmapsInUse(image, "following");
}

function refuseCorrupt(image: Qcow2Image, found: string): DiskError {
  return new DiskError(
    "CORRUPT",
    `Cannot open ${image.label} for writing: ${found}, allowed reading it, and 'xvd check --repair'`,
  );
}

export interface OpenedImage {
  readonly image: Qcow2Image;
  readonly locator: ClusterLocator;
  readonly placer: ClusterPlacer;
  readonly releaser: ClusterReleaser;
  readonly device: BlockDevice;
}

/** The guest's disk. Closing it writes what is left, and closes what the image opened and its file. */
export function imageDevice(image: Qcow2Image, close: (image: Qcow2Image) => Promise<void> = closeImage): OpenedImage {
  const locator = new ClusterLocator(image);
  const tables = new ActiveTables(image, locator);
  const placer = new ClusterPlacer(image, locator, tables);
  const releaser = new ClusterReleaser(image, locator, tables);
  const { clusterSize, subclusterSize } = image.geometry;
  const device = mapDevice({
    label: image.label,
    get size() {
      return image.size;
    },
    blockSize: 1,
    writable: image.writable,
    changes: image.changes,
    locate: (offset, length) => locator.locate(offset, length),
    allocator: {
      unit: clusterSize,
      grain: subclusterSize,
      allocate: (_cluster, offset, length) => placer.allocate(offset, length),
      // A raw data file must have the zeros itself.
      ...(image.dataFileIsRaw
        ? {}
        : {
            zero: (offset, length) => releaser.release(offset, length, "zero"),
            discard: (offset, length) => releaser.release(offset, length, "discard"),
          }),
    },
    flush: () => image.flush(),
    close: () => close(image),
  });
  return { image, locator, placer, releaser, device };
}

async function closeImage(image: Qcow2Image): Promise<void> {
  try {
    if (image.writable) {
      await image.flush();
      await image.file.trim();
    }
  } finally {
    await image.backing?.close();
    await image.dataFile?.close();
    await image.file.host.close();
  }
}
