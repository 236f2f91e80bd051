/**
 * What some formats and some images can do beyond reading and writing. Each is an interface of its own with a guard that
 * tells whether it is there; none is an optional method.
 */
import type { BlockDevice } from "../block/device.js";
import type { HostFile } from "../block/host-file.js";
import type { Packing } from "../bytes/packing.js";
import type {
  BackingReference,
  CreateOptions,
  ImageDevice,
  ImageFormat,
  OpenContext,
  Preallocation,
  SnapshotFacts,
} from "./format.js";

/** A format whose metadata can be checked and mended. */
export interface CheckableFormat extends ImageFormat {
  /**
   * Reads all metadata; never opens a backing file. Throws `CORRUPT` or `UNSUPPORTED` when there is nothing to check by:
   * the header itself is damaged. With `repair` the file is writable, unless `dryRun`, which tells what would be done.
   */
  check(file: HostFile, context: OpenContext, options: CheckOptions): Promise<CheckReport>;
}

export interface CheckOptions {
  /** `leaks`: give back space that nobody uses; `all`: also mend what is wrong. */
  readonly repair: "none" | "leaks" | "all";
  readonly dryRun: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Counts as `qemu-img check --output=json` has them. What was mended is counted in `…Fixed` only. */
export interface CheckReport {
  /** What could not be checked. */
  readonly checkErrors: number;
  readonly corruptions: number;
  readonly leaks: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** Bytes of the file that are used. */
  readonly imageEndOffset: number | null;
  readonly totalClusters: number | null;
  readonly allocatedClusters: number | null;
  readonly fragmentedClusters: number | null;
  readonly compressedClusters: number | null;
  /** A sentence for each of the first problems. */
  readonly problems: readonly string[];
}

/** The report of an image in order, whose clusters were not counted. */
export const NOTHING_FOUND: CheckReport = {
  checkErrors: 0,
  corruptions: 0,
  leaks: 0,
  corruptionsFixed: 0,
  leaksFixed: 0,
  imageEndOffset: null,
  totalClusters: null,
  allocatedClusters: null,
  fragmentedClusters: null,
  compressedClusters: null,
  problems: [],
};

/** More problems than this are counted, not told. */
export const MAX_PROBLEMS = 200;

/** An image whose guest-visible size can be changed. */
export interface ResizableImage extends ImageDevice {
  /**
   * Bytes. New space reads as zeros, also over a backing image that is longer. When shrinking, what lies behind is given
   * up: whoever calls has looked. A cut leaves the old or the new size.
   */
  resize(size: number, options?: { readonly preallocation?: Preallocation }): Promise<void>;
}

/** An image with internal snapshots. The list is in `image.snapshots`. */
export interface SnapshotImage extends ImageDevice {
  /** Of what is visible now. Throws `DENIED` when the name is taken. */
  createSnapshot(name: string): Promise<void>;
  /** The disk becomes what it was; by id or name. Throws `NOT_FOUND`. The size may change. */
  applySnapshot(name: string): Promise<void>;
  deleteSnapshot(name: string): Promise<void>;
  /** What was visible then, as a device for reading; closed with the image. */
  openSnapshot(name: string): Promise<BlockDevice>;
}

/** A format of overlays: `CreateOptions.backing` may be given. */
export interface BackedFormat extends ImageFormat {
  readonly hasBacking: true;
}

/** An image that lies, or may lie, over another one. */
export interface BackedImage extends ImageDevice {
  /** What of the range this image holds itself (zeros too), rather than the images beneath. Ascending and gapless. */
  ownExtents(offset: number, length: number): AsyncIterable<{ offset: number; length: number; own: boolean }>;
  /** Records another backing image, or none, without a look at its contents. `device` stays the caller's; null when it was not opened. Takes effect when the image is opened again. */
  setBacking(backing: (BackingReference & { readonly device: ImageDevice | null }) | null): Promise<void>;
  /** Gives up everything that the image itself holds: all of it reads from the backing image again. A cut leaves all of it or none. */
  empty(): Promise<void>;
}

/** A format that can be written in one pass, packed: by `-c`, or because an option asks for it. */
export interface StreamingFormat extends ImageFormat {
  /** Whether these options make an image that can only be written so. */
  needsWriter(options: CreateOptions): boolean;
  /** In an empty, writable file. Every unit is packed. */
  createWriter(file: HostFile, size: number, options: CreateOptions): Promise<ImageWriter>;
}

/** Takes the disk once, from its begin to its end. */
export interface ImageWriter {
  /** Bytes of a unit; the last one of the disk may be given short. */
  readonly unit: number;
  /** How units are packed before they come here; done on all cores. */
  readonly packing: Packing;
  /**
   * One unit, at a multiple of `unit`, above all offsets before. `packed` may be longer than `data`. Units that are never
   * given read as zeros, or as the backing image. Neither array is kept.
   */
  write(offset: number, data: Uint8Array, packed: Uint8Array): Promise<void>;
  /** Zeros, over a backing image that has something else there. Whole units. */
  zero(offset: number, length: number): Promise<void>;
  /** Tables and header; the image is complete. The file stays open. */
  finish(): Promise<void>;
}

export const isCheckable = (format: ImageFormat): format is CheckableFormat => "check" in format;
export const isBackedFormat = (format: ImageFormat): format is BackedFormat => "hasBacking" in format;
export const isStreaming = (format: ImageFormat): format is StreamingFormat => "createWriter" in format;
export const isResizable = (image: ImageDevice): image is ResizableImage => "resize" in image;
export const isBacked = (image: ImageDevice): image is BackedImage => "setBacking" in image;
export const hasSnapshots = (image: ImageDevice): image is SnapshotImage => "createSnapshot" in image;

/** By id or by name, an id first, as qemu-img looks. */
export function findSnapshot(snapshots: readonly SnapshotFacts[], name: string): SnapshotFacts | undefined {
  return snapshots.find(({ id }) => id === name) ?? snapshots.find((one) => one.name === name);
}
