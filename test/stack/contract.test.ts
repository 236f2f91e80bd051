/** What a disk's name opens is a good device, whatever lies beneath it. */
import { openDisk } from "#src/stack/disk.js";
import { describeBlockDevice } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";
import { MIB, partitionedFile, sparseFile } from "./support.js";

const dir = tempDir();
let count = 0;

describeBlockDevice(
  "FILE by name",
  async ({ size, writable }) => ({ device: await openDisk(sparseFile(dir, `${count++}.dsk`, size), { writable }) }),
  { blockSizes: [1] },
);

describeBlockDevice(
  "FILE#p1 by name",
  async ({ writable }) => ({
    device: await openDisk(`${await partitionedFile(dir, `${count++}.dsk`, 4 * MIB, [MIB])}#p1`, { writable }),
  }),
  { blockSizes: [1], size: () => MIB, runs: 5 },
);
