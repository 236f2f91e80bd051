/** What `info` tells of a qcow2 image, with qemu-img's keys. */
import type { ImageFacts } from "../format.js";
import type { BitmapDirectory } from "./bitmaps.js";
import { backingFormatOf, extensionText } from "./header.js";
import type { Qcow2Image } from "./image.js";
import { BITMAP_AUTO, BITMAP_IN_USE, COMPATIBLE, EXTENSION, INCOMPATIBLE } from "./layout.js";
import type { Snapshot } from "./snapshot-table.js";

export function factsOf(
  image: Qcow2Image,
  snapshots: readonly Snapshot[],
  bitmaps: BitmapDirectory | null,
): ImageFacts {
  const { header, geometry } = image;
  return {
    clusterSize: geometry.clusterSize,
    backing: header.backingFile === null ? null : { name: header.backingFile, format: backingFormatOf(header) },
    dirty: (header.incompatible & INCOMPATIBLE.dirty) !== 0n,
    compressed: null,
    snapshots: snapshots.map(({ id, name, seconds, nanoseconds, vmClock, vmStateSize }) => ({
      id,
      name,
      vmStateSize: Number(vmStateSize),
      date: seconds * 1000 + Math.floor(nanoseconds / 1e6),
      vmClock: Number(vmClock),
    })),
    formatSpecific: { type: "qcow2", data: specific(image, bitmaps) },
    identity: null,
  };
}

function specific(image: Qcow2Image, bitmaps: BitmapDirectory | null): Record<string, unknown> {
  const { header, geometry } = image;
  const common = { "compression-type": header.compressionType, "refcount-bits": 2 ** header.refcountOrder };
  if (header.version === 2) return { compat: "0.10", ...common };
  return {
    compat: "1.1",
    ...common,
    "lazy-refcounts": (header.compatible & COMPATIBLE.lazyRefcounts) !== 0n,
    corrupt: (header.incompatible & INCOMPATIBLE.corrupt) !== 0n,
    "extended-l2": geometry.extendedL2,
    ...(image.hasDataFile
      ? { "data-file": extensionText(header, EXTENSION.dataFile), "data-file-raw": image.dataFileIsRaw }
      : {}),
    ...(bitmaps
      ? {
          bitmaps: bitmaps.bitmaps.map(({ name, granularity, flags }) => ({
            flags: [...(flags & BITMAP_IN_USE ? ["in-use"] : []), ...(flags & BITMAP_AUTO ? ["auto"] : [])],
            name,
            granularity,
          })),
        }
      : {}),
  };
}
