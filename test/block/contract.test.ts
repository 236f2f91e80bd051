/** Every device of block/ keeps the contract. */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteGranular } from "#src/block/aligned.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { nullDevice } from "#src/block/null.js";
import { overlayDevice } from "#src/block/overlay.js";
import { slice } from "#src/block/slice.js";
import { type DeviceFactory, describeBlockDevice } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";

describeBlockDevice("memory", async ({ size, ...options }) => ({ device: memoryDevice(size, options) }));

describeBlockDevice("null", async ({ size, ...options }) => ({ device: nullDevice(size, options) }), { keeps: false });

describeBlockDevice("slice", async ({ size, blockSize, writable }) => ({
  device: slice(memoryDevice(size + 8192, { blockSize, writable }), 4096, size),
}));

describeBlockDevice(
  "overlay in memory",
  async ({ size, blockSize }) => ({ device: overlayDevice(nullDevice(size, { blockSize }), { unit: 4096 }) }),
  { writable: [true] },
);

describeBlockDevice(
  "overlay on a device, longer than its base",
  async ({ size, blockSize }) => ({
    device: overlayDevice(memoryDevice(4096 + 512, { blockSize }), {
      unit: 4096,
      size,
      upper: memoryDevice(size, { blockSize }),
    }),
  }),
  { writable: [true] },
);

describeBlockDevice(
  "bytes of a device with blocks",
  async ({ size, writable }) => ({ device: byteGranular(memoryDevice(size, { blockSize: 512, writable })) }),
  { blockSizes: [1], unit: 512, size: () => 512 * 9 },
);

describeBlockDevice(
  "bytes of large blocks over an overlay",
  async ({ size }) => ({
    device: byteGranular(overlayDevice(nullDevice(size, { blockSize: 4096 }), { unit: 8192 })),
  }),
  { blockSizes: [1], unit: 4096, size: () => 4096 * 5, writable: [true] },
);

const file =
  (native: boolean): DeviceFactory =>
  async ({ size, writable }) => {
    const path = join(tempDir(), "disk.dsk");
    writeFileSync(path, "");
    truncateSync(path, size);
    return { device: await openFileDevice(path, { writable, native }) };
  };

describeBlockDevice("file", file(true), { blockSizes: [1] });
describeBlockDevice("file without native calls", file(false), { blockSizes: [1] });

describeBlockDevice(
  "file longer than its contents",
  async ({ size, writable }) => {
    const path = join(tempDir(), "short.dsk");
    writeFileSync(path, new Uint8Array(100));
    return { device: await openFileDevice(path, { writable, sizeOverride: size }) };
  },
  { blockSizes: [1] },
);
