/** Internal snapshots of an image file. */
import { DiskError } from "../errors.js";
import { findSnapshot, hasSnapshots, type SnapshotImage } from "../formats/extensions.js";
import type { SnapshotFacts } from "../formats/format.js";
import { openImage } from "./open-image.js";

export interface SnapshotOptions {
  readonly format?: string;
  readonly dryRun?: boolean;
  readonly forceShare?: boolean;
}

export function listSnapshots(path: string, options: SnapshotOptions): Promise<readonly SnapshotFacts[]> {
  return withSnapshots(path, { ...options, dryRun: true }, async (image) => image.image.snapshots);
}

export function createSnapshot(path: string, name: string, options: SnapshotOptions): Promise<void> {
  return withSnapshots(path, options, async (image) => {
    if (name === "" || /^\d+$/.test(name))
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot make a snapshot ${JSON.stringify(name)}: a name is no number and not empty`,
        {
          details: { usage: true },
        },
      );
    if (image.image.snapshots.some((one) => one.name === name))
      throw new DiskError(
        "DENIED",
        `Cannot make a snapshot ${JSON.stringify(name)} of ${image.label}: there is one already`,
      );
    if (!options.dryRun) await image.createSnapshot(name);
  });
}

export function applySnapshot(path: string, name: string, options: SnapshotOptions): Promise<SnapshotFacts> {
  return withNamed(path, name, options, (image, { id }) => image.applySnapshot(id));
}

export function deleteSnapshot(path: string, name: string, options: SnapshotOptions): Promise<SnapshotFacts> {
  return withNamed(path, name, options, (image, { id }) => image.deleteSnapshot(id));
}

function withNamed(
  path: string,
  name: string,
  options: SnapshotOptions,
  change: (image: SnapshotImage, snapshot: SnapshotFacts) => Promise<void>,
): Promise<SnapshotFacts> {
  return withSnapshots(path, options, async (image) => {
    const snapshot = findSnapshot(image.image.snapshots, name);
    if (!snapshot)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot find a snapshot ${JSON.stringify(name)} of ${image.label}: ${known(image)}`,
      );
    if (!options.dryRun) await change(image, snapshot);
    return snapshot;
  });
}

function known({ image: { snapshots } }: SnapshotImage): string {
  return snapshots.length === 0 ? "it has none" : `there are ${snapshots.map(({ name }) => name).join(", ")}`;
}

async function withSnapshots<T>(
  path: string,
  { format, dryRun = false, forceShare = false }: SnapshotOptions,
  work: (image: SnapshotImage) => Promise<T>,
): Promise<T> {
  // Snapshots are of what the image itself holds: the images beneath are not opened.
  const opened = await openImage(path, { writable: !dryRun, sealed: true, forceShare, ...(format ? { format } : {}) });
  try {
    const image = opened.image!;
    if (!hasSnapshots(image))
      throw new DiskError("UNSUPPORTED", `Cannot use snapshots of ${image.label}: ${opened.format} images have none`, {
        details: { usage: true },
      });
    const result = await work(image);
    await image.flush();
    return result;
  } finally {
    await opened.whole.close();
  }
}
