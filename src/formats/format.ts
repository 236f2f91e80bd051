/**
 * What an image format is: how a file of it is told, opened and made. One folder per format, one line in the registry.
 * What only some formats can do (check, resize, snapshots, backing files, one-pass writing) is in extensions.ts.
 */
import type { BlockDevice } from "../block/device.js";
import type { HostFile } from "../block/host-file.js";
import type { FormatOption, OptionValues } from "./options.js";

export interface ImageFormat {
  /** As `-f` and the JSON of `info` name it. */
  readonly name: string;
  /** Other names that `-f` takes: qemu-img's, where it has another one. */
  readonly aliases: readonly string[];
  /** File name extensions, lower case, without the dot. The first is the usual one. */
  readonly extensions: readonly string[];
  /** Bytes: the largest disk that an image of it can hold. */
  readonly maxSize: number;
  /** The keys of `-o`, beside `preallocation`. */
  readonly options: readonly FormatOption<unknown>[];
  readonly preallocations: readonly Preallocation[];
  /** Whether the first `HEAD_SIZE` bytes of a file say that it is of this format. Raw images say nothing. */
  hasMagic(head: Uint8Array): boolean;
  /**
   * The guest-visible disk in an open file, writable when the file is. Closing it closes the file and what it opened;
   * when this throws, only what it opened. Throws `CORRUPT` or `UNSUPPORTED` for a file that is not as the format says,
   * in bounded time and memory. The device takes any byte offset (`blockSize` 1).
   */
  open(file: HostFile, context: OpenContext): Promise<ImageDevice>;
  /** Makes an empty disk of `size` bytes in an empty, writable file. The file stays open and is not synced. */
  create(file: HostFile, size: number, options: CreateOptions): Promise<void>;
}

/** An open image: what the guest sees, and what is told of it. */
export interface ImageDevice extends BlockDevice {
  /** As of now: it changes with the image. */
  readonly image: ImageFacts;
}

/** What `info` tells of an image beside its sizes. */
export interface ImageFacts {
  /** Bytes that are allocated together; null where there is no such unit. */
  readonly clusterSize: number | null;
  /** `identity`: recorded in place of a name, which is then a guess or the identity again. */
  readonly backing: (BackingReference & { readonly identity?: string }) | null;
  /** Not closed properly, or marked so. */
  readonly dirty: boolean;
  /** Clusters are compressed; null where it cannot be told without reading all tables. */
  readonly compressed: boolean | null;
  readonly snapshots: readonly SnapshotFacts[];
  /** qemu-img's `format-specific`: `{ "type": "qcow2", "data": { "compat": "1.1", … } }`, keys as qemu-img spells them. */
  readonly formatSpecific: { readonly type: string; readonly data: Readonly<Record<string, unknown>> } | null;
  /** What an overlay writes down about this image to know it again (UUID, content id); null where there is no such thing. */
  readonly identity: string | null;
}

/** The image beneath an overlay, as it is written in the overlay. */
export interface BackingReference {
  /** Path, relative to the folder of the image that holds it. */
  readonly name: string;
  /** Name of the format, as in the registry; null when it is not recorded. */
  readonly format: string | null;
}

/** One internal snapshot. */
export interface SnapshotFacts {
  readonly id: string;
  readonly name: string;
  /** Bytes of saved machine state; 0 for a snapshot of the disk alone. */
  readonly vmStateSize: number;
  /** When it was made: milliseconds since 1970. */
  readonly date: number;
  /** Nanoseconds that the guest had run. */
  readonly vmClock: number;
}

/** What a format may ask of the world while it opens an image. */
export interface OpenContext {
  readonly gate: OpenGate;
  /** Identifiers that a format makes up while an image is written. */
  readonly random: Random;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export type Random = (size: number) => Uint8Array;

/**
 * The only way to files that an image names inside itself. It refuses (`DENIED`) what the user has neither named nor
 * allowed, loops and chains that are too long. Whoever asks closes what it gets.
 */
export interface OpenGate {
  /** Read-only. Its format is the recorded one, else what the extension says; contents are never asked. */
  openBacking(reference: BackingReference & { readonly from: HostFile }): Promise<ImageDevice>;
  /** As `openBacking`, for formats that record who the image beneath is, not where: looked for beside the image and one folder above. `name` is its path. */
  openByIdentity(reference: {
    readonly identity: string;
    readonly format: string;
    readonly from: HostFile;
  }): Promise<{ readonly image: ImageDevice; readonly name: string }>;
  /** A part of the image itself: a flat extent, a data file. Its bytes as they are. */
  openExtent(reference: {
    readonly name: string;
    readonly from: HostFile;
    readonly writable: boolean;
  }): Promise<HostFile>;
}

/** `off`: nothing is stored; `metadata`: tables are complete, data is not reserved; `falloc`: space is reserved, reads as zeros; `full`: zeros are written. */
export const PREALLOCATIONS = ["off", "metadata", "falloc", "full"] as const;
export type Preallocation = (typeof PREALLOCATIONS)[number];

export interface CreateOptions {
  /** One of the format's `preallocations`. */
  readonly preallocation: Preallocation;
  /** What `-o` says, read and checked; defaults for the rest. */
  readonly values: OptionValues;
  /** Makes an overlay; given only to formats that have them (extensions.ts). */
  readonly backing: NewBacking | null;
  readonly random: Random;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** An empty file beside the image, for formats of several files; it appears together with the image. A plain name. */
  createExtent(name: string): Promise<HostFile>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface NewBacking extends BackingReference {
  readonly format: string;
  /** The backing image, open for reading; stays the caller's. */
  readonly device: ImageDevice;
}

/** Gives a device its facts. Returns the same object. */
export function withFacts<D extends BlockDevice>(device: D, facts: () => ImageFacts): D & ImageDevice {
  return Object.defineProperty(device, "image", { get: facts, enumerable: true }) as D & ImageDevice;
}

/** What is true of an image about which nothing special is known. */
export const PLAIN_FACTS: ImageFacts = {
  clusterSize: null,
  backing: null,
  dirty: false,
  compressed: null,
  snapshots: [],
  formatSpecific: null,
  identity: null,
};
