/** A backend's thread that ended by itself: what the next one finds on the ring. What the dead one had mapped: platform-hypervisor.test.ts. */
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { BlkfrontRings } from "#src/xen/blkfront-rings.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import type { EventChannels, XenPlatform } from "#src/xen/platform/platform.js";
import { peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { limitsOf } from "./ring-pair.js";

function host() {
  const hypervisor = new Hypervisor(1 << 20);
  const { pages } = hypervisor.create(8 << 20);
  const backend = () => {
    const platform = simulatedPlatform(hypervisor.dom0, 1);
    platform.introduce(pages);
    return platform;
  };
  const guest = simulatedPlatform(pages, 0);
  guest.introduce(peerView(hypervisor.dom0));
  return { backend, guest, dies: () => hypervisor.releaseVcpu(0, 1) };
}

test("a backend that ended between an answer and its notification: the next one notifies", async () => {
  const { backend, guest, dies } = host();
  const disk = memoryDevice(1 << 20, { writable: true });
  const front = new BlkfrontRings(guest, 0, {});
  front.negotiate({ maxSegments: 11, persistent: false, flush: 3 });
  const { ringRefs, eventChannel } = front.queues[0]!;
  const address = { frontendDomid: 1, ringRefs, eventChannel, abi: ABIS["x86_64-abi"]! };
  const connect = (platform: XenPlatform) => new BlkbackQueue(platform, disk, limitsOf(disk), address, () => {});
  let ended = 0;
  const writes = Array.from({ length: 20 }, (_, i) =>
    front.write(i * 512, new Uint8Array(512).fill(i + 1)).then(() => void ended++),
  );
  await null;
  const dead = backend();
  const { events } = dead;
  const silent: EventChannels = {
    allocUnbound: (domid) => events.allocUnbound(domid),
    bindInterdomain: (domid, port) => events.bindInterdomain(domid, port),
    listen: (port, handler) => events.listen(port, handler),
    notify: () => {},
    close: (port) => events.close(port),
  };
  const first = connect({ ...dead, events: silent });
  first.take();
  while (first.inFlight > 0) await null;
  first.publish();
  guest.vcpu.dispatch();
  expect(ended).toBe(0);
  dies();
  const second = connect(backend());
  expect(second.take()).toBe(0);
  guest.vcpu.dispatch();
  await Promise.all(writes);
  await second.close();
});
