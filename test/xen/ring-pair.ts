/** blkfront and blkback of two simulated domains in one thread, over real rings and grants. */
import type { BlockDevice } from "#src/block/device.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { frontendDevice } from "#src/xen/blkfront.js";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { createDomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";

/** Two domains that know each other: 0 may map, 1 may only send events. */
export function twoDomains() {
  const pages0 = createDomainPages(0, 8 << 20);
  const pages1 = createDomainPages(1, 8 << 20);
  const dom0 = simulatedPlatform(pages0, 1);
  const guest = simulatedPlatform(pages1, 0);
  dom0.introduce(pages1);
  guest.introduce(peerView(pages0));
  return { dom0, guest, pages0, pages1 };
}

export function limitsOf(device: BlockDevice, sectorSize = 512) {
  return { size: device.size, sectorSize, writable: device.writable, canDiscard: device.writable };
}

/** A connected vbd; both loops run until `close`. */
export function ringPair(device: BlockDevice, sectorSize = 512) {
  const { dom0, guest } = twoDomains();
  const front = new BlkfrontQueue(guest, 0);
  const frontLoop = new VcpuLoop(guest.vcpu, { blocking: false, spins: 0 });
  const backLoop = new VcpuLoop(dom0.vcpu, { blocking: false, spins: 0 });
  const address = {
    frontendDomid: 1,
    ringRef: front.ringRef,
    eventChannel: front.eventChannel,
    abi: ABIS["x86_64-abi"]!,
  };
  const back = new BlkbackQueue(dom0, device, limitsOf(device, sectorSize), address, () => backLoop.wake());
  frontLoop.add(front);
  backLoop.add(back);
  const running = [frontLoop.run(), backLoop.run()];
  const facts = { sectors: device.size / 512, sectorSize, info: device.writable ? 0 : 4, canDiscard: device.writable };
  return {
    front,
    back,
    device: frontendDevice(51712, front, facts),
    dom0,
    guest,
    async close() {
      await front.idle();
      await back.close();
      front.close("closed by the test");
      for (const loop of [frontLoop, backLoop]) loop.stop();
      await Promise.all(running);
    },
  };
}
