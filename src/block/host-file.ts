/**
 * The file in which an image lies, as formats see it: a device that can be made longer and shorter. Block devices of the
 * host are such files too, of one size.
 */
import type { BlockDevice } from "./device.js";

export interface HostFile extends BlockDevice {
  readonly path: string;
  /** False for a block device: its size stays, `resize` refuses. */
  readonly resizable: boolean;
  /** Bytes. Growing adds zeros that take no space; requests behind the end are refused, so it comes before writing there. */
  resize(size: number): Promise<void>;
  /** Reserves space for a range within the size, so that later writes cannot run out of it. Contents stay. */
  allocate(offset: number, length: number): Promise<void>;
}
