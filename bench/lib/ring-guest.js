// A guest's thread that does what fio does: keeps `depth` reads under way into buffers of its own, for some seconds.
import { parentPort, workerData } from "node:worker_threads";
import { RpcServer } from "../../dist/dom0/thread-rpc.js";
import { frontendDevice } from "../../dist/xen/blkfront.js";
import { BlkfrontQueue } from "../../dist/xen/blkfront-queue.js";
import { simulatedPlatform } from "../../dist/xen/platform/simulated/platform.js";
import { VcpuLoop } from "../../dist/xen/vcpu-loop.js";

const { own, dom0, size } = workerData;
const platform = simulatedPlatform(own, 0);
platform.introduce(dom0);
const queue = new BlkfrontQueue(platform, 0);
const device = frontendDevice(51712, queue, { sectors: size / 512, sectorSize: 512, info: 0, canDiscard: false });
const loop = new VcpuLoop(platform.vcpu, { blocking: false });
loop.add(queue);
void loop.run();

new RpcServer(parentPort, {
  offer: () => ({ ringRef: queue.ringRef, eventChannel: queue.eventChannel, protocol: "x86_64-abi" }),
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
