/**
 * Entry of a guest's thread: the drivers of one domain. It reaches its own memory, what was granted to it, and nothing else.
 * Its disks are offered to the outside as NBD unix sockets, one for the whole disk and one for each partition.
 * The toolstack asks it through the store (control/shutdown); what only the hypervisor could do to it are messages.
 */
import { parentPort, workerData } from "node:worker_threads";
import { DiskError } from "../errors.js";
import type { DeviceNodes } from "../kernel/device-nodes.js";
import { Blkfront } from "../xen/blkfront.js";
import type { StoredRun } from "../xen/blkfront-extents.js";
import type { OutstandingCall } from "../xen/blkfront-io.js";
import { domainPath } from "../xen/blkif/keys.js";
import { type DomainPages, XEN_WORDS } from "../xen/platform/simulated/domain-pages.js";
import { SHUTDOWN } from "../xen/platform/simulated/hypercalls.js";
import { simulatedPlatform } from "../xen/platform/simulated/platform.js";
import { ownXenstorePage } from "../xen/platform/simulated/xenstore-page.js";
import { VcpuLoop } from "../xen/vcpu-loop.js";
import { XenstoreClient } from "../xen/xenstore/client.js";
import { ringTransport } from "../xen/xenstore/ring-transport.js";
import { askExtents } from "./ask-extents.js";
import { GuestDisk, type GuestDiskInfo } from "./guest-disk.js";
import { RpcClient, RpcServer } from "./thread-rpc.js";

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

/** What it tells without being asked. */
export type GuestEvent =
  | { readonly event: "log"; readonly message: string }
  /** Its vcpu stops here. */
  | { readonly event: "paused" }
  /** After a move: the last client has left. */
  | { readonly event: "unused" };

/** A disk of a domain that was suspended: what it was asked for and has not done. */
export interface OutstandingCalls {
  readonly devid: number;
  readonly calls: readonly OutstandingCall[];
}

/** Its only call to the host. */
export interface ExtentsRequest {
  readonly devid: number;
  readonly offset: number; // bytes
  readonly length: number; // bytes
}

/** A disk that is to be a block device of this machine's kernel. */
export interface KernelRequest {
  readonly devid: number;
  /** See `KernelDeviceOptions`. */
  readonly owner: string;
  /** Where its nodes are written down. */
  readonly recordFile: string;
}

/** Where a moved domain's disk is served now, and how its outstanding calls ended there. */
export interface MovedDisk {
  readonly devid: number;
  readonly socket: string;
  readonly writable: boolean;
  readonly statuses: readonly (string | null)[];
}

/** control/shutdown (libxl, Linux drivers/xen/manage.c): what it says, and what becomes of the domain. */
const SHUTDOWNS: Readonly<Record<string, number>> = {
  poweroff: SHUTDOWN.poweroff,
  halt: SHUTDOWN.poweroff,
  reboot: SHUTDOWN.reboot,
  suspend: SHUTDOWN.suspend,
};

/** How long Dom0 may take to tell what is stored. */
const EXTENTS_MS = 1000;

const data = workerData as GuestThreadData;
const platform = simulatedPlatform(data.own, data.vcpu);
platform.introduce(data.dom0);
const loop = new VcpuLoop(platform.vcpu, { blocking: false });
const disks = new Map<number, GuestDisk>();
let kernelNodes: DeviceNodes | undefined;
const store = new XenstoreClient(
  ringTransport({ words: ownXenstorePage(data.own), events: platform.events, port: data.storePort }),
);

const host = new RpcClient(parentPort!);
const stored = askExtents((request) => host.call<readonly StoredRun[]>("extents", request), EXTENTS_MS);

const blkfront = new Blkfront({
  platform,
  store,
  loop,
  storedRuns: (devid, offset, length) => stored({ devid, offset, length }),
  async onConnected(devid, device) {
    const rings = () => blkfront.rings(devid);
    const disk = new GuestDisk({ devid, device, dir: data.socketDir, rings, log: report, loop });
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
  /** Starts the drivers; a domain without them never connects and follows no request. */
  async loadDrivers({ restored }: { restored: readonly OutstandingCalls[] }): Promise<void> {
    for (const { devid, calls } of restored) blkfront.restore(devid, calls);
    await blkfront.start();
    if (platform.domid !== 0) await followShutdowns();
  },
  openKernel: (request: KernelRequest) => openKernel(request),
  closeKernel: ({ devid, force }: { devid: number; force: boolean }) => disks.get(devid)?.closeKernel(force),
  kernelUsers: () => [...disks.values()].flatMap((disk) => disk.kernelUsers()),
  describe: ({ devid }: { devid: number }): GuestDiskInfo | null => disks.get(devid)?.describe() ?? null,
  restoredStatuses: ({ devid }: { devid: number }) => blkfront.restoredStatuses(devid),
  pause,
  resume: () => blkfront.resume(),
  outstanding: () => blkfront.outstanding(),
  moveTo: ({ moved }: { moved: readonly MovedDisk[] }) => moveTo(moved),
});

void loop.run();

async function openKernel({ devid, owner, recordFile }: KernelRequest): Promise<void> {
  const { DeviceNodes } = await import("../kernel/device-nodes.js");
  kernelNodes ??= new DeviceNodes(recordFile);
  const disk = disks.get(devid);
  if (!disk) throw new DiskError("NOT_FOUND", `Cannot make a kernel device: there is no disk ${devid}`);
  await disk.openKernel({ owner, nodes: kernelNodes, runner: loop });
}

function report(message: string): void {
  tell({ event: "log", message });
}

function tell(event: GuestEvent): void {
  parentPort!.postMessage(event);
}

/** The thread stops here, as a vcpu that is not scheduled: its sockets take connections and answer nothing. */
function pause(): void {
  const xen = new Int32Array(data.own.xen);
  tell({ event: "paused" });
  for (let count = 1; (count = Atomics.load(xen, XEN_WORDS.paused)) > 0; ) Atomics.wait(xen, XEN_WORDS.paused, count);
}

async function followShutdowns(): Promise<void> {
  const control = `${domainPath(platform.domid)}/control`;
  await store.watch(`${control}/shutdown`, "shutdown", () => {
    void follow(`${control}/shutdown`).catch((error: Error) => report(`control/shutdown: ${error.message}`));
  });
  for (const feature of ["poweroff", "reboot", "suspend"]) await store.write(`${control}/feature-${feature}`, "1");
}

/** Acknowledged before it is done, by an empty value: the toolstack tells a guest that works on it from one that is deaf. */
async function follow(node: string): Promise<void> {
  const asked = (await store.readOrNull(node)) ?? "";
  if (asked === "") return;
  const reason = Object.hasOwn(SHUTDOWNS, asked) ? SHUTDOWNS[asked] : undefined;
  if (reason === undefined) return report(`control/shutdown: ignored ${JSON.stringify(asked)}`);
  await store.write(node, "");
  if (reason === SHUTDOWN.suspend) await blkfront.suspend();
  else await blkfront.shutdown();
  platform.hypercalls.shutdown(reason);
}

/** The domain runs elsewhere: what is connected here is served through its sockets there, until the last client leaves. */
async function moveTo(moved: readonly MovedDisk[]): Promise<void> {
  const { connectNbd } = await import("../nbd/client.js");
  for (const disk of disks.values()) await disk.stopAccepting();
  for (const { devid, socket, writable, statuses } of moved) {
    const uri = `nbd+unix:///?socket=${encodeURIComponent(socket)}`;
    blkfront.moveTo(devid, await connectNbd(uri, { readOnly: !writable }), statuses);
  }
  const look = () => {
    if ([...disks.values()].every((disk) => disk.describe().connections === 0)) tell({ event: "unused" });
  };
  for (const disk of disks.values()) disk.onConnectionClosed = look;
  look();
}
