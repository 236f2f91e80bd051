/**
 * An extension of devices: where a run of bytes lies as it is in one file, so that the kernel may copy it without
 * passing it through this process. Devices that cannot tell have no entry here.
 */
import type { OpenFile } from "../os/file.js";
import type { BlockDevice } from "./device.js";

export interface FileRange {
  readonly file: OpenFile;
  /** Byte in the file. */
  readonly offset: number;
  /** Bytes from there on, at least 1, at most as many as were asked for. */
  readonly length: number;
  /** False when the bytes belong to somebody else too and may only be read. */
  readonly exclusive: boolean;
}

type Locate = (offset: number, length: number) => Promise<FileRange | null>;

const LOCATORS = new WeakMap<BlockDevice, Locate>();

/** Declares how a device finds its bytes in a file. Returns the device. */
export function withFileRange<D extends BlockDevice>(device: D, locate: Locate): D {
  LOCATORS.set(device, locate);
  return device;
}

/** The first run of the range in its file; null when it is not in a file as it is (zeros, compressed, in memory, remote). */
export async function asFileRange(device: BlockDevice, offset: number, length: number): Promise<FileRange | null> {
  return (await LOCATORS.get(device)?.(offset, length)) ?? null;
}
