/**
 * Entry of a guest's thread: the drivers of one domain. It reaches its own memory, what was granted to it, and nothing else.
 * Its disks are offered to the outside as NBD unix sockets, one for the whole disk and one for each partition.
 */
import { parentPort, workerData } from "node:worker_threads";
import { Blkfront } from "../xen/blkfront.js";
import type { DomainPages } from "../xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "../xen/platform/simulated/platform.js";
import { ownXenstorePage } from "../xen/platform/simulated/xenstore-page.js";
import { VcpuLoop } from "../xen/vcpu-loop.js";
import { XenstoreClient } from "../xen/xenstore/client.js";
import { ringTransport } from "../xen/xenstore/ring-transport.js";
import { GuestDisk, type GuestDiskInfo } from "./guest-disk.js";
import { RpcServer } from "./thread-rpc.js";

export interface GuestThreadData {
  readonly own: DomainPages;
  /** Only what is needed to send events to Dom0. */
  readonly dom0: DomainPages;
  readonly vcpu: number;
  /** Of the event channel to xenstored. */
  readonly storePort: number;
  /** Folder of the disks' sockets. */
  readonly socketDir: string;
}

const data = workerData as GuestThreadData;
const platform = simulatedPlatform(data.own, data.vcpu);
platform.introduce(data.dom0);
const loop = new VcpuLoop(platform.vcpu, { blocking: false });
const disks = new Map<number, GuestDisk>();
const store = new XenstoreClient(
  ringTransport({ words: ownXenstorePage(data.own), events: platform.events, port: data.storePort }),
);

const blkfront = new Blkfront({
  platform,
  store,
  loop,
  async onConnected(devid, device) {
    const disk = new GuestDisk(devid, device, data.socketDir, () => blkfront.rings(devid), report);
    disks.set(devid, disk);
    await disk.open();
  },
  async onResized(devid) {
    await disks.get(devid)?.rescan();
  },
  async onClosing(devid) {
    const disk = disks.get(devid);
    disks.delete(devid);
    await disk?.close();
  },
  onError: report,
});

new RpcServer(parentPort!, {
  /** Starts the block driver; a domain without one never connects. */
  loadBlkfront: () => blkfront.start(),
  describe: ({ devid }: { devid: number }): GuestDiskInfo | null => disks.get(devid)?.describe() ?? null,
});

void loop.run();

function report(message: string): void {
  parentPort!.postMessage({ event: "log", message });
}
