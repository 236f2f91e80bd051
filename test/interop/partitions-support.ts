/** A disk image as a device, by plain node:fs: interop tests of partition tables need nothing of os/. */
import { open } from "node:fs/promises";
import { type BlockDevice, defineDevice } from "#src/block/device.js";

export async function fileDevice(path: string): Promise<BlockDevice> {
  const file = await open(path, "r+");
  const { size } = await file.stat();
  return defineDevice({
    label: path,
    size,
    async read(offset, into) {
      await file.read(into, 0, into.length, offset);
    },
    async write(offset, data) {
      await file.write(data, 0, data.length, offset);
    },
    flush: () => file.datasync(),
    close: () => file.close(),
  });
}
