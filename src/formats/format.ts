/** What an image format is: how a file of it is told, opened and made. One folder per format, one line in the registry. */
import type { BlockDevice } from "../block/device.js";
import type { FileDevice } from "../block/file.js";

export interface ImageFormat {
  /** As `-f` and the JSON of `info` name it. */
  readonly name: string;
  /** File name extensions, lower case, without the dot. The first is the usual one. */
  readonly extensions: readonly string[];
  /** Whether the first bytes of a file say that it is of this format. Raw images say nothing. */
  hasMagic(head: Uint8Array): boolean;
  /** The guest-visible disk in an open file. Closing it closes the file. */
  open(file: FileDevice): Promise<BlockDevice>;
  /** Makes an empty disk of `size` bytes in an empty, writable file. The file stays open. */
  create(file: FileDevice, size: number, options: CreateOptions): Promise<void>;
}

/** `off`: nothing is stored; `falloc`: space is reserved, reads as zeros; `full`: zeros are written. */
export const PREALLOCATIONS = ["off", "falloc", "full"] as const;
export type Preallocation = (typeof PREALLOCATIONS)[number];

export interface CreateOptions {
  readonly preallocation: Preallocation;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}
