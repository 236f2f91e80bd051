/** A store, a toolstack, blkback and blkfront in one thread: two domains that find each other through xenstore. */
import type { BlockDevice } from "#src/block/device.js";
import { memoryDevice } from "#src/block/memory.js";
import { Blkback, type BlkbackDataPlane, type FrontendRings, type VbdId } from "#src/xen/blkback.js";
import { BlkbackQueue } from "#src/xen/blkback-queue.js";
import { Blkfront } from "#src/xen/blkfront.js";
import type { BackendOffers, FrontendWishes } from "#src/xen/blkif/features.js";
import { backendPath, frontendPath } from "#src/xen/blkif/keys.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { parseVdev } from "#src/xen/blkif/vdev.js";
import { type DiskScript, Toolstack, type VbdOptions } from "#src/xen/toolstack.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { localTransport } from "#src/xen/xenstore/transport.js";
import { twoDomains } from "./ring-pair.js";

const VDEV = parseVdev("xvda");
export const BACKEND = backendPath(0, 1, VDEV.number);
export const FRONTEND = frontendPath(1, VDEV.number);

export async function splitHost(size = 4 << 20) {
  const { dom0, guest, pages1 } = twoDomains(64 << 20);
  const xenstored = new Xenstored();
  xenstored.introduce(1);
  const store = new XenstoreClient(localTransport(xenstored, 0));
  const guestStore = new XenstoreClient(localTransport(xenstored, 1));
  const backLoop = new VcpuLoop(dom0.vcpu, { blocking: false, spins: 0 });
  const frontLoop = new VcpuLoop(guest.vcpu, { blocking: false, spins: 0 });
  const running = [backLoop.run(), frontLoop.run()];
  const errors: string[] = [];
  const disk = memoryDevice(size);
  let offered = size;
  let queues: BlkbackQueue[] = [];
  let connects = 0;
  const plane: BlkbackDataPlane = {
    facts: () => ({
      size: offered,
      hiddenBytes: 0,
      sectorSize: 512,
      physicalSectorSize: 512,
      writable: true,
      canDiscard: true,
      discardGranularity: 4096,
    }),
    async connect(_id: VbdId, { rings, protocol, persistent, maxIndirectSegments }: FrontendRings) {
      connects++;
      const common = { frontendDomid: 1, abi: ABIS[protocol]!, persistent, maxIndirectSegments };
      const limits = { size, sectorSize: 512, writable: true, canDiscard: true };
      queues = rings.map((ring) => new BlkbackQueue(dom0, disk, limits, { ...common, ...ring }, () => backLoop.wake()));
      for (const queue of queues) backLoop.add(queue);
    },
    async disconnect() {
      for (const queue of queues.splice(0)) {
        await queue.close();
        backLoop.remove(queue);
      }
    },
  };
  const script: DiskScript = { add: async () => ({ physicalDevice: "0:0", path: "disk" }), remove: async () => {} };
  const toolstack = new Toolstack({ store, script, timeoutMs: 5000 });
  await toolstack.createDomainTree(1, "guest", {
    uuid: "b0a7c8f2-3a5e-4c51-9d0e-6f1d2c3b4a59",
    vcpus: 1,
    memory: 65536,
    maxmem: 65536,
    type: "pv",
  });
  const waiting: ((device: BlockDevice) => void)[] = [];
  const backs: Blkback[] = [];

  return {
    dom0,
    guest,
    pages1,
    store,
    guestStore,
    disk,
    errors,
    toolstack,
    queues: () => queues,
    connects: () => connects,
    /** What the next connect tells of the disk. */
    resizeTo(bytes: number) {
      offered = bytes;
    },
    async startBlkback(offers?: BackendOffers) {
      const blkback = new Blkback({ store, domid: 0, plane, ...(offers ? { offers } : {}), onError });
      backs.push(blkback);
      await blkback.start();
      return blkback;
    },
    /** A frontend's driver; `next` gives the disk that it connects next. */
    async startBlkfront(wishes?: FrontendWishes) {
      const blkfront = new Blkfront({
        platform: guest,
        store: guestStore,
        loop: frontLoop,
        ...(wishes ? { wishes } : {}),
        onConnected: async (_devid, device) => waiting.shift()?.(device),
        onClosing: async () => {},
        onError,
      });
      await blkfront.start();
      return blkfront;
    },
    next: () => new Promise<BlockDevice>((resolve) => waiting.push(resolve)),
    attach: (options: VbdOptions = {}) => toolstack.attach(1, { vdev: VDEV, target: "disk", writable: true, options }),
    detach: () => toolstack.detach({ domid: 1, devid: VDEV.number }, "xvda"),
    /** All keys of a directory but those of the toolstack. */
    keys: async (dir: string, names: readonly string[]) =>
      Object.fromEntries(
        await Promise.all(names.map(async (name) => [name, await store.readOrNull(`${dir}/${name}`)])),
      ),
    async stop() {
      for (const blkback of backs) await blkback.stop();
      for (const loop of [backLoop, frontLoop]) loop.stop();
      await Promise.all(running);
    },
  };

  function onError(message: string): void {
    errors.push(message);
  }
}
