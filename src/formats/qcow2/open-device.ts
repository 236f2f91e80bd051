/** An open qcow2 image with all its abilities: resizing, snapshots, backing files. */
import type { HostFile } from "../../block/host-file.js";
import type { BackedImage, ResizableImage, SnapshotImage } from "../extensions.js";
import { type OpenContext, withFacts } from "../format.js";
import { emptyImage, ownExtents, setBacking } from "./backing.js";
import { type BitmapDirectory, markBitmapsInUse, readBitmaps } from "./bitmaps.js";
import { factsOf } from "./facts.js";
import { imageDevice, openImage } from "./open.js";
import { preallocate } from "./preallocate.js";
import { growImage, shrinkImage } from "./resize.js";
import { Snapshots } from "./snapshots.js";

export type Qcow2Device = ResizableImage & SnapshotImage & BackedImage;

export async function openDevice(host: HostFile, context: OpenContext): Promise<Qcow2Device> {
  const image = await openImage(host, context);
  let bitmaps: BitmapDirectory | null;
  let snapshots: Snapshots;
  try {
    bitmaps = await readBitmaps(image);
    snapshots = await Snapshots.load(image, context.now);
  } catch (error) {
    await image.backing?.close();
    await image.dataFile?.close();
    throw error;
  }
  const opened = imageDevice(image);
  const outdateBitmaps = async () => {
    await markBitmapsInUse(image, "all");
    bitmaps = await readBitmaps(image);
  };
  const abilities: Omit<ResizableImage & SnapshotImage & BackedImage, keyof typeof opened.device | "image"> = {
    async resize(size, { preallocation = "off" } = {}) {
      const old = image.size;
      if (size !== old) await outdateBitmaps();
      if (size > old) await growImage(opened, size);
      if (size < old) await shrinkImage(opened, size);
      if (size > old && preallocation !== "off") await preallocate(opened, old, { preallocation });
    },
    createSnapshot: async (name) => snapshots.create(name),
    async applySnapshot(name) {
      const { diskSize } = snapshots.find(name);
      if (diskSize !== null && diskSize !== image.size) await outdateBitmaps();
      await snapshots.apply(name);
      opened.locator.compressed.clear();
    },
    async deleteSnapshot(name) {
      await snapshots.delete(name);
      opened.locator.compressed.clear();
    },
    openSnapshot: async (name) => snapshotDevice(await snapshots.open(name)),
    ownExtents: (offset, length) => ownExtents(opened, offset, length),
    setBacking: (backing) => setBacking(image, backing),
    empty: () => emptyImage(opened),
  };
  return Object.assign(
    withFacts(opened.device, () => factsOf(image, snapshots.list, bitmaps)),
    abilities,
  );
}

/** Closing it closes nothing: the file and the backing image belong to the image. */
function snapshotDevice(image: Parameters<typeof imageDevice>[0]) {
  return imageDevice(image, async () => {}).device;
}
