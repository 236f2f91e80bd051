/**
 * The files of a new image while it is made: the image, and for some formats more files beside it. They appear under their
 * names when all of them are complete, the image last: a cut before that leaves files that no image names.
 */
import { basename, dirname, join } from "node:path";
import { type FileDevice, fileDevice } from "../block/file.js";
import type { HostFile } from "../block/host-file.js";
import { DiskError } from "../errors.js";
import { createStaged, type StagedFile, type StagedOptions } from "../os/staged.js";

export interface StagedImage {
  /** The image's own file, empty at first, as a device; closing it leaves the file open until commit or abort. */
  openFile(): FileDevice;
  createExtent(name: string): Promise<HostFile>;
  /** One that was created, again. */
  openExtent(name: string): HostFile | undefined;
  /** Bytes that all files take now. */
  allocatedSize(): number;
  commit(): Promise<void>;
  /** Idempotent, and without effect after a commit. */
  abort(): Promise<void>;
}

export async function stageImage(path: string, options: StagedOptions = {}): Promise<StagedImage> {
  const image = await createStaged(path, options);
  const extents = new Map<string, StagedFile>();
  const all = () => [...extents.values(), image];
  return {
    openFile: () => fileDevice(image.file, { own: false }),
    async createExtent(name) {
      const isPlain = name !== "" && name !== "." && name !== ".." && name === basename(name);
      if (!isPlain || name === basename(path) || extents.has(name))
        throw new DiskError(
          "UNSUPPORTED",
          `Cannot create a file ${JSON.stringify(name)} beside "${path}": it is no name of its own`,
        );
      const extent = await createStaged(join(dirname(path), name), options);
      extents.set(name, extent);
      return fileDevice(extent.file, { own: false });
    },
    openExtent(name) {
      const extent = extents.get(name);
      return extent && fileDevice(extent.file, { own: false });
    },
    allocatedSize: () => all().reduce((sum, { file }) => sum + file.allocatedSize(), 0),
    async commit() {
      for (const staged of all()) await staged.commit();
    },
    async abort() {
      for (const staged of all()) await staged.abort();
    },
  };
}
