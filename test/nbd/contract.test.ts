/** The client on the server owes what every BlockDevice owes. */
import { join } from "node:path";
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd, type NbdClientOptions } from "#src/nbd/client.js";
import { serveNbd } from "#src/nbd/server.js";
import { type DeviceFactory, describeBlockDevice } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";
import { sparseDevice } from "./devices.js";

let sockets = 0;
const dir = tempDir();

function over(make: (size: number, blockSize: number) => BlockDevice, options: NbdClientOptions): DeviceFactory {
  return async ({ size, blockSize, writable }) => {
    const server = await serveNbd({
      path: join(dir, String(sockets++)),
      exports: new Map([["disk", { device: make(size, blockSize), readOnly: !writable }]]),
    });
    return { device: await connectNbd(server.uri("disk"), options), release: () => server.close() };
  };
}

describeBlockDevice(
  "nbd over memory",
  over((size, blockSize) => memoryDevice(size, { blockSize }), {}),
);
describeBlockDevice("nbd over holes, three connections", over(sparseDevice, { connections: 3 }), {
  unit: 32 << 10, // from here on reads tell holes
  blockSizes: [1, 512, 4096],
  size: (blockSize) => (96 << 10) + 3 * Math.max(blockSize, 512),
});
