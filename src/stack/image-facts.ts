/** What is told of an image, with qemu-img's keys (`qemu-img info --output=json`), and the chain beneath it. */
import { dirname, isAbsolute, join } from "node:path";
import { DiskError } from "../errors.js";
import type { ImageDevice, SnapshotFacts } from "../formats/format.js";
import type { OpenDisk, OpenDiskOptions } from "./disk.js";
import { gatePath } from "./open-gate.js";
import { openImage } from "./open-image.js";

/** Keys that only images have; empty for network disks. */
export function imageDocument({ image, file }: Pick<OpenDisk, "image" | "file">): Record<string, unknown> {
  if (!image) return {};
  const { clusterSize, backing, compressed, snapshots, formatSpecific } = image.image;
  return {
    ...(clusterSize === null ? {} : { "cluster-size": clusterSize }),
    ...(compressed ? { compressed } : {}),
    ...(backing
      ? {
          "backing-filename": backing.name,
          ...(file ? { "full-backing-filename": fullName(backing.name, file.path) } : {}),
          ...(backing.format === null ? {} : { "backing-filename-format": backing.format }),
        }
      : {}),
    ...(snapshots.length > 0 ? { snapshots: snapshots.map(snapshotDocument) } : {}),
    ...(formatSpecific ? { "format-specific": formatSpecific } : {}),
  };
}

export function snapshotDocument({ id, name, vmStateSize, date, vmClock }: SnapshotFacts) {
  return {
    id,
    name,
    "vm-state-size": vmStateSize,
    "date-sec": Math.floor(date / 1000),
    "date-nsec": Math.floor((date % 1000) * 1e6),
    "vm-clock-sec": Math.floor(vmClock / 1e9),
    "vm-clock-nsec": Math.floor(vmClock % 1e9),
  };
}

function fullName(name: string, path: string): string {
  return isAbsolute(name) || /^[a-z][a-z0-9+.-]*:/i.test(name) ? name : join(dirname(path), name);
}

/** One image of a chain, alone: sealed. */
export interface ChainLink {
  readonly path: string;
  readonly format: string;
  readonly image: ImageDevice;
  readonly file: OpenDisk["file"];
}

/** More images than this in a chain are a loop or as good as one. */
const LONGEST = 256;

/**
 * The images beneath an open one, from the nearest on; each is closed when the next one is asked for. Their names are
 * followed only when the user allows it.
 */
export async function* backingChain(
  disk: Pick<OpenDisk, "image" | "file">,
  options: Pick<OpenDiskOptions, "allowBacking" | "forceShare">,
): AsyncGenerator<ChainLink> {
  let { image, file } = disk;
  const seen = new Set<string>();
  while (image?.image.backing && file) {
    const { name, format } = image.image.backing;
    const path = gatePath(name, file, options);
    seen.add(file.file.identity);
    const below = await openImage(path, {
      sealed: true,
      ...(format === null ? {} : { format }),
      ...(options.forceShare ? { forceShare: true } : {}),
    });
    try {
      if (seen.has(below.file!.file.identity) || seen.size > LONGEST)
        throw new DiskError("CORRUPT", `Cannot open ${file.label}: its chain of backing files has no end`);
      yield { path, format: below.format, image: below.image!, file: below.file };
    } finally {
      await below.whole.close();
    }
    ({ image, file } = { image: below.image, file: below.file });
  }
}
