// A guest's thread that does what fio does: keeps `depth` reads under way into buffers of its own, for some seconds.
import { parentPort, workerData } from "node:worker_threads";
import { RpcServer } from "../../dist/dom0/thread-rpc.js";
import { frontendDevice } from "../../dist/xen/blkfront-device.js";
import { BlkfrontRings } from "../../dist/xen/blkfront-rings.js";
import { BLKIF_OP } from "../../dist/xen/blkif/layout.js";
import { simulatedPlatform } from "../../dist/xen/platform/simulated/platform.js";
import { VcpuLoop } from "../../dist/xen/vcpu-loop.js";

const { own, dom0, size, options } = workerData;
const { queues, pageOrder, maxSegments, persistent } = options;
const platform = simulatedPlatform(own, 0);
platform.introduce(dom0);
const rings = new BlkfrontRings(platform, 0, { queues, pageOrder });
rings.negotiate({ maxSegments, persistent, flush: BLKIF_OP.FLUSH_DISKCACHE });
const device = frontendDevice(51712, rings, { sectors: size / 512, sectorSize: 512, info: 0, canDiscard: false });
const loop = new VcpuLoop(platform.vcpu, { blocking: false });
rings.addTo(loop);
void loop.run();

new RpcServer(parentPort, {
  offer: () => ({
    rings: rings.queues.map(({ ringRefs, eventChannel }) => ({ ringRefs, eventChannel })),
    protocol: rings.abi.protocol,
    persistent,
    maxIndirectSegments: 256,
  }),
  measure,
});

async function measure({ rw, blockSize, depth, seconds }) {
  const blocks = Math.floor(size / blockSize);
  const end = performance.now() + seconds * 1000;
  let next = 0;
  let count = 0;
  let running = true;
  const job = async () => {
    const into = new Uint8Array(blockSize);
    while (running) {
      const block = rw === "read" ? next++ % blocks : Math.floor(Math.random() * blocks);
      await device.read(block * blockSize, into);
      if ((++count & 63) === 0) running = performance.now() < end;
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: depth }, job));
  const elapsed = (performance.now() - begin) / 1000;
  return { iops: count / elapsed, bandwidth: (count * blockSize) / elapsed };
}
