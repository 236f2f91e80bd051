// `node random-reads.js FILE COUNT`: reads of 4 KiB through the library, 32 at a time, at offsets as qemu-img bench has them with -S 36864.
import { openDisk } from "../../dist/index.js";

const [file, count] = [process.argv[2], Number(process.argv[3])];
const SIZE = 4096;
const STEP = 36864;
const disk = await openDisk(file);
const wrap = disk.size - SIZE;
let next = 0;
await Promise.all(
  Array.from({ length: 32 }, async () => {
    const buffer = new Uint8Array(SIZE);
    while (next < count) await disk.read((next++ * STEP) % wrap, buffer);
  }),
);
await disk.close();
