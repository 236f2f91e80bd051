/** blkfront and blkback of two simulated domains in one thread, over real rings and grants. */
import type { BlockDevice } from "#src/block/device.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { frontendDevice } from "#src/xen/blkfront-device.js";
import { BlkfrontRings } from "#src/xen/blkfront-rings.js";
import { ABIS, BLKIF_OP } from "#src/xen/blkif/layout.js";
import { createDomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";

/** Two domains that know each other: 0 may map, 1 may only send events. `memory` of the guest in bytes. */
export function twoDomains(memory = 8 << 20) {
  const pages0 = createDomainPages(0, 1 << 20);
  const pages1 = createDomainPages(1, memory);
  const dom0 = simulatedPlatform(pages0, 1);
  const guest = simulatedPlatform(pages1, 0);
  dom0.introduce(pages1);
  guest.introduce(peerView(pages0));
  return { dom0, guest, pages0, pages1 };
}

export function limitsOf(device: BlockDevice, sectorSize = 512) {
  return { size: device.size, sectorSize, writable: device.writable, canDiscard: device.writable };
}

/** How the two halves of a pair talk. Default: as our blkfront and blkback agree by themselves. */
export interface PairOptions {
  readonly sectorSize?: number;
  readonly pages?: number;
  readonly queues?: number;
  /** Segments of a request; above 11 through indirect requests. */
  readonly maxSegments?: number;
  readonly persistent?: boolean;
  readonly protocol?: string;
  readonly flush?: 2 | 3;
  readonly memory?: number;
}

/** A connected vbd; both loops run until `close`. */
export function ringPair(device: BlockDevice, options: PairOptions = {}) {
  const { sectorSize = 512, pages = 1, queues = 1, maxSegments = 32, persistent = true } = options;
  const { flush = BLKIF_OP.FLUSH_DISKCACHE, protocol = "x86_64-abi" } = options;
  const { dom0, guest, pages0, pages1 } = twoDomains(options.memory ?? 64 << 20);
  const abi = ABIS[protocol]!;
  const front = new BlkfrontRings(guest, 0, { queues, pageOrder: Math.log2(pages), abi });
  front.negotiate({ maxSegments, persistent, flush });
  const frontLoop = new VcpuLoop(guest.vcpu, { blocking: false, spins: 0 });
  const backLoop = new VcpuLoop(dom0.vcpu, { blocking: false, spins: 0 });
  const backs = front.queues.map(({ ringRefs, eventChannel }) => {
    const address = { frontendDomid: 1, ringRefs, eventChannel, abi, persistent, maxIndirectSegments: 256 };
    return new BlkbackQueue(dom0, device, limitsOf(device, sectorSize), address, () => backLoop.wake());
  });
  front.addTo(frontLoop);
  for (const back of backs) backLoop.add(back);
  const running = [frontLoop.run(), backLoop.run()];
  const facts = { sectors: device.size / 512, sectorSize, info: device.writable ? 0 : 4, canDiscard: device.writable };
  return {
    front,
    backs,
    back: backs[0]!,
    device: frontendDevice(51712, front, facts),
    dom0,
    guest,
    pages0,
    pages1,
    async close() {
      await front.idle();
      for (const back of backs) await back.close();
      front.close("closed by the test");
      for (const loop of [frontLoop, backLoop]) loop.stop();
      await Promise.all(running);
    },
  };
}
