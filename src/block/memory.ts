/** A device in memory, all zeros at first. For tests, scratch space and small decoded pieces. */
import { type BlockDevice, defineDevice } from "./device.js";

export interface MemoryOptions {
  readonly label?: string;
  readonly blockSize?: number;
  readonly writable?: boolean;
}

/** Uses `contents` itself, without a copy; a number makes that many zero bytes. */
export function memoryDevice(contents: Uint8Array | number, options: MemoryOptions = {}): BlockDevice {
  const bytes = typeof contents === "number" ? new Uint8Array(contents) : contents;
  return defineDevice({
    label: options.label ?? `memory of ${bytes.length} bytes`,
    size: bytes.length,
    blockSize: options.blockSize ?? 1,
    writable: options.writable ?? true,
    async read(offset, into) {
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async write(offset, data) {
      bytes.set(data, offset);
    },
    async zero(offset, length) {
      bytes.fill(0, offset, offset + length);
    },
  });
}
