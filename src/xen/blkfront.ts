/**
 * The frontend's control plane (Linux blkfront.c in behaviour), run in the guest's own thread: finds the vbds that the
 * toolstack put below `device/vbd`, offers rings, and turns a connected one into a block device.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { type FrontendFacts, frontendDevice } from "./blkfront-device.js";
import type { StoredRuns } from "./blkfront-extents.js";
import { BlkfrontIo, type DiskCalls, type OutstandingCall } from "./blkfront-io.js";
import { BlkfrontRings } from "./blkfront-rings.js";
import type { FrontRingState } from "./blkfront-state.js";
import {
  chooseFeatures,
  chooseRings,
  FRONTEND_RING_KEY,
  FRONTEND_WISHES,
  type FrontendWishes,
  frontendKeys,
  readWishes,
} from "./blkif/features.js";
import { domainPath, XENBUS_STATE, type XenbusState } from "./blkif/keys.js";
import { ABIS } from "./blkif/layout.js";
import { vdevFromNumber } from "./blkif/vdev.js";
import type { XenPlatform } from "./platform/platform.js";
import type { VcpuLoop } from "./vcpu-loop.js";
import { Coalescer, deviceFatal, readState, switchState, switchStateFrom } from "./xenbus.js";
import type { XenstoreClient } from "./xenstore/client.js";

export interface BlkfrontOptions {
  readonly platform: XenPlatform;
  readonly store: XenstoreClient;
  readonly loop: VcpuLoop;
  /** What it takes of a backend's offers. Default: as Linux's blkfront, and what the vbd's own keys say. */
  readonly wishes?: FrontendWishes;
  /** What of a disk is stored (`StoredRuns`), where the platform can tell beside the protocol. */
  storedRuns?(devid: number, ...range: Parameters<StoredRuns>): ReturnType<StoredRuns>;
  /** The disk can be used; runs before the frontend says Connected. */
  onConnected(devid: number, device: BlockDevice): Promise<void>;
  /** The disk has another size; its `size` says so already. */
  onResized?(devid: number): Promise<void>;
  /** The disk is going: its users must stop before this resolves. */
  onClosing(devid: number): Promise<void>;
  onError(message: string): void;
}

interface Vbd {
  readonly devid: number;
  readonly dir: string;
  readonly backendDir: string;
  wishes: FrontendWishes;
  rings: BlkfrontRings | undefined;
  /** The disk as its users have it, from the first connection to the last: what they call, and what they were told. */
  disk: { readonly device: BlockDevice; readonly io: BlkfrontIo; readonly facts: FrontendFacts } | undefined;
  /** Called when the rings have gone, or are back. */
  settled: () => void;
  unwatch(): Promise<void>;
}

export class Blkfront {
  readonly #options: BlkfrontOptions;
  readonly #root: string;
  readonly #vbds = new Map<string, Vbd>();
  readonly #events: Coalescer;
  /** Calls of a domain that was suspended elsewhere, to be made before the disk has users; then how they ended. */
  readonly #restored = new Map<number, readonly OutstandingCall[]>();
  readonly #statuses = new Map<number, (string | null)[]>();
  #suspended = false;
  /** The store says nothing of the disks any more. */
  #moved = false;
  /** Counts suspensions and resumptions. */
  #turn = 0;

  constructor(options: BlkfrontOptions) {
    this.#options = options;
    this.#root = `${domainPath(options.platform.domid)}/device/vbd`;
    this.#events = new Coalescer(
      (key) => this.#reconcile(key),
      (key, error) => options.onError(`vbd ${key}: ${(error as Error).message}`),
    );
  }

  async start(): Promise<void> {
    await this.#options.store.watch(this.#root, "blkfront", (path) => {
      const devid = path.slice(this.#root.length + 1).split("/")[0];
      if (devid && /^\d+$/.test(devid)) this.#events.schedule(devid);
    });
  }

  /** The rings of a vbd; none while it has not offered any. */
  rings(devid: number): FrontRingState[] {
    return this.#vbds.get(String(devid))?.rings?.queues.map(({ state }) => state) ?? [];
  }

  /**
   * Lets all rings go; resolves when no backend has one. Each closes as for a driver that is unloaded (5, then 6): the
   * backend ends what it took, answers it and unmaps, then the answers still in the ring are taken. What has none is
   * kept, and calls of the disks' users wait.
   */
  async suspend(): Promise<void> {
    this.#suspended = true;
    this.#turn++;
    const hold = (vbd: Vbd) => {
      vbd.disk?.io.hold();
      vbd.rings?.hold();
    };
    do await this.#each(hold);
    while ([...this.#vbds.values()].some(({ rings }) => rings)); // one was just being connected
  }

  /** After `suspend`: new rings to whatever backend is there (state 1 again); resolves when all are Connected. */
  async resume(): Promise<void> {
    this.#suspended = false;
    this.#turn++;
    const { store } = this.#options;
    await this.#each((vbd) => switchState(store, vbd.dir, XENBUS_STATE.Initialising));
  }

  /** Ends the use of all disks, makes them durable and lets their rings go. */
  async shutdown(): Promise<void> {
    for (const vbd of this.#vbds.values()) {
      const { disk } = vbd;
      if (!disk) continue;
      await this.#options.onClosing(vbd.devid);
      if (disk.device.writable) await disk.device.flush();
      await vbd.rings?.idle();
    }
    await this.suspend();
  }

  /** Of a suspended domain: what each disk's backend never answered, reads aside. */
  outstanding(): { devid: number; calls: OutstandingCall[] }[] {
    return [...this.#vbds.values()].map(({ devid, disk }) => ({ devid, calls: disk?.io.outstanding() ?? [] }));
  }

  /** Before `start`: what a disk has to do when it is connected, before it has users. */
  restore(devid: number, calls: readonly OutstandingCall[]): void {
    this.#restored.set(devid, calls);
  }

  /** How the restored calls of a connected disk ended: an error's text or null for each. */
  restoredStatuses(devid: number): readonly (string | null)[] {
    return this.#statuses.get(devid) ?? [];
  }

  /** Of a suspended domain that runs on another host now: its disk is reached through `target` for good. */
  moveTo(devid: number, target: DiskCalls, statuses: readonly (string | null)[]): void {
    this.#moved = true;
    for (const vbd of this.#vbds.values()) if (vbd.devid === devid) vbd.disk?.io.moveTo(target, statuses);
  }

  /** Begins something on all vbds and waits until each has settled. */
  async #each(begin: (vbd: Vbd) => void | Promise<void>): Promise<void> {
    const begun = [...this.#vbds].map(async ([key, vbd]) => {
      const settled = new Promise<void>((resolve) => {
        vbd.settled = resolve;
      });
      await begin(vbd);
      this.#events.schedule(key);
      await settled;
    });
    await Promise.all(begun);
  }

  async #reconcile(key: string): Promise<void> {
    if (this.#moved) return;
    const { store } = this.#options;
    const dir = `${this.#root}/${key}`;
    const turn = this.#turn;
    const own = await readState(store, dir);
    const known = this.#vbds.get(key);
    if (own === XENBUS_STATE.Unknown) return known ? this.#remove(key, known) : undefined;
    // State 1 beside a ring of ours: the directory was removed and made anew between two looks. What was there goes first.
    const stale = known?.rings !== undefined && own === XENBUS_STATE.Initialising;
    if (stale) await this.#remove(key, known);
    const vbd = (stale ? undefined : known) ?? (await this.#probe(key, dir));
    if (!vbd) return;
    const backend = await readState(store, vbd.backendDir);
    if (turn !== this.#turn) return; // what was read is of before: it is looked at again
    if (this.#suspended) return this.#letGo(vbd, own, backend);
    const S = XENBUS_STATE;
    try {
      if (own === S.Initialising && (backend === S.InitWait || backend === S.Initialised)) await this.#offerRings(vbd);
      else if (own === S.Initialised && backend === S.Connected) await this.#connect(vbd);
      else if (own === S.Connected && backend === S.Connected) await this.#followSize(vbd);
    } catch (error) {
      await deviceFatal(store, domainPath(this.#options.platform.domid), vbd.dir, (error as Error).message);
      this.#options.onError(`vbd ${key}: ${(error as Error).message}`);
      vbd.settled();
      return;
    }
    if (backend === S.Closing && own !== S.Closed) await this.#close(vbd);
    else if (backend === S.Unknown || (backend === S.Closed && own !== S.Initialising)) {
      await this.#releaseRings(vbd);
      // A backend that closed without asking first; one that is gone may come back.
      if (backend === S.Closed) await switchStateFrom(store, vbd.dir, S.Connected, S.Closed);
    }
  }

  /** One step towards a vbd without rings. */
  #letGo(vbd: Vbd, own: XenbusState, backend: XenbusState): Promise<void> | void {
    const { store, loop } = this.#options;
    const S = XENBUS_STATE;
    const { rings, disk } = vbd;
    const closed = backend === S.Closed || backend === S.Unknown;
    if (!rings) return own === S.Closed && !closed ? undefined : vbd.settled();
    if (!closed && backend !== S.Closing) return own === S.Closing ? undefined : switchState(store, vbd.dir, S.Closing);
    const unanswered = rings.leave(`Cannot use ${vdevFromNumber(vbd.devid).name}: the domain was suspended`);
    if (disk) disk.io.unanswered = unanswered;
    rings.removeFrom(loop);
    vbd.rings = undefined;
    return switchState(store, vbd.dir, S.Closed);
  }

  async #probe(key: string, dir: string): Promise<Vbd | undefined> {
    const { store } = this.#options;
    const backendDir = await store.readOrNull(`${dir}/backend`);
    if (!backendDir) return undefined;
    const unwatch = await store.watch(`${backendDir}/state`, `blkfront-${key}`, () => this.#events.schedule(key));
    const vbd: Vbd = {
      devid: Number(key),
      dir,
      backendDir,
      wishes: FRONTEND_WISHES,
      rings: undefined,
      disk: undefined,
      settled: () => {},
      unwatch,
    };
    this.#vbds.set(key, vbd);
    return vbd;
  }

  async #offerRings(vbd: Vbd): Promise<void> {
    const { platform, store } = this.#options;
    const backend = Number(await store.read(`${vbd.dir}/backend-id`));
    const wishes = await this.#wishesFor(vbd);
    vbd.wishes = wishes;
    const abi = ABIS[wishes.protocol]!;
    const read = (name: string) => store.readOrNull(`${vbd.backendDir}/${name}`);
    const rings = new BlkfrontRings(platform, backend, { ...(await chooseRings(read, wishes)), abi });
    vbd.rings = rings;
    const keys = frontendKeys({ protocol: wishes.protocol, persistent: wishes.persistent, rings: rings.queues });
    await switchState(store, vbd.dir, XENBUS_STATE.Initialised, keys, FRONTEND_RING_KEY);
  }

  async #wishesFor({ dir }: Vbd): Promise<FrontendWishes> {
    const { wishes, store, platform } = this.#options;
    if (wishes) return wishes;
    const cpus = `${domainPath(platform.domid)}/cpu`;
    const names = (await store.readOrNull(cpus)) === null ? [] : await store.directory(cpus);
    const online = await Promise.all(names.map((name) => store.readOrNull(`${cpus}/${name}/availability`)));
    const vcpus = Math.max(1, online.filter((availability) => availability === "online").length);
    return readWishes((name) => store.readOrNull(`${dir}/${name}`), vcpus);
  }

  async #connect(vbd: Vbd): Promise<void> {
    const { store, loop } = this.#options;
    const number = async (key: string) => Number((await store.readOrNull(`${vbd.backendDir}/${key}`)) ?? Number.NaN);
    const facts = {
      sectors: await number("sectors"),
      sectorSize: await number("sector-size"),
      info: await number("info"),
    };
    const valid = Number.isSafeInteger(facts.sectors * 512) && (facts.sectorSize === 512 || facts.sectorSize === 4096);
    if (!valid) {
      const reason = "reading the backend's sectors and sector-size";
      await deviceFatal(store, domainPath(this.#options.platform.domid), vbd.dir, reason);
      return vbd.settled();
    }
    const canDiscard = (await number("feature-discard")) === 1;
    const read = (name: string) => store.readOrNull(`${vbd.backendDir}/${name}`);
    const trusted = (await store.readOrNull(`${vbd.dir}/trusted`)) !== "0";
    vbd.rings!.negotiate({ ...(await chooseFeatures(read, vbd.wishes)), trusted });
    vbd.rings!.addTo(loop);
    if (vbd.disk) await this.#continue(vbd, facts);
    else await this.#offerDisk(vbd, { ...facts, canDiscard });
    await switchState(store, vbd.dir, XENBUS_STATE.Connected);
    vbd.settled();
  }

  async #offerDisk(vbd: Vbd, facts: FrontendFacts): Promise<void> {
    const io = new BlkfrontIo(vbd.rings!);
    const { storedRuns } = this.#options;
    const stored = async (offset: number, length: number) =>
      this.#isAttached(vbd, io) ? storedRuns!(vbd.devid, offset, length) : null;
    const device = frontendDevice(vbd.devid, io, facts, storedRuns && stored);
    vbd.disk = { device, io, facts };
    const restored = this.#restored.get(vbd.devid);
    this.#restored.delete(vbd.devid);
    if (restored) this.#statuses.set(vbd.devid, await makeCalls(device, restored));
    await this.#options.onConnected(vbd.devid, device);
  }

  /** Whether the host of this domain has the disk now: not while it is suspended, nor after a move. */
  #isAttached({ rings, disk }: Vbd, io: BlkfrontIo): boolean {
    return rings !== undefined && disk?.io === io && !this.#suspended && !this.#moved;
  }

  /** The same disk again, behind another backend: unanswered requests go out before anything new. */
  async #continue(vbd: Vbd, facts: { sectors: number; sectorSize: number }): Promise<void> {
    const { device, io } = vbd.disk!;
    if (facts.sectors * 512 < device.size || facts.sectorSize > device.blockSize)
      throw new Error(
        `${device.label} has ${facts.sectors * 512} bytes in sectors of ${facts.sectorSize}, it had ${device.size} in sectors of ${device.blockSize}`,
      );
    const { unanswered } = io;
    io.unanswered = [];
    vbd.rings!.requeue(unanswered);
    io.resume(vbd.rings!);
    await this.#showSize(vbd, facts.sectors);
  }

  /** The backend says Connected again when its disk has another size. */
  async #followSize(vbd: Vbd): Promise<void> {
    const sectors = Number((await this.#options.store.readOrNull(`${vbd.backendDir}/sectors`)) ?? Number.NaN);
    if (Number.isSafeInteger(sectors * 512) && sectors > 0) return this.#showSize(vbd, sectors);
    if (vbd.disk) this.#options.onError(`vbd ${vbd.devid}: the backend's new size of ${sectors} sectors is none`);
  }

  async #showSize({ devid, disk }: Vbd, sectors: number): Promise<void> {
    if (!disk || sectors === disk.facts.sectors) return;
    disk.facts.sectors = sectors;
    await this.#options.onResized?.(devid);
  }

  /** Lets the users and the outstanding requests end. The rings are kept until the backend has let go of it. */
  async #close(vbd: Vbd): Promise<void> {
    await this.#stopUse(vbd);
    await vbd.rings?.idle();
    await switchState(this.#options.store, vbd.dir, XENBUS_STATE.Closed);
  }

  async #stopUse(vbd: Vbd): Promise<void> {
    if (!vbd.disk) return;
    vbd.disk = undefined;
    await this.#options.onClosing(vbd.devid);
  }

  /** What is outstanding fails first: the disk's users cannot stop while they wait for a backend that has gone. */
  async #releaseRings(vbd: Vbd): Promise<void> {
    const { rings } = vbd;
    const reason = `Cannot use ${vdevFromNumber(vbd.devid).name}: it was detached`;
    vbd.rings = undefined;
    rings?.close(reason);
    vbd.disk?.io.fail(new DiskError("IO", reason)); // calls that waited for a backend, too
    rings?.removeFrom(this.#options.loop);
    await this.#stopUse(vbd);
  }

  async #remove(key: string, vbd: Vbd): Promise<void> {
    this.#vbds.delete(key);
    await vbd.unwatch();
    await this.#releaseRings(vbd);
    vbd.settled();
  }
}

/** All of them at once, begun in their order, as they were before. */
async function makeCalls(device: BlockDevice, calls: readonly OutstandingCall[]): Promise<(string | null)[]> {
  const ended = await Promise.allSettled(
    calls.map(async (call) => {
      if (call.kind === "write") return device.write(call.offset, call.data);
      return call.kind === "discard" ? device.discard(call.offset, call.length) : device.flush();
    }),
  );
  return ended.map((end) => (end.status === "rejected" ? (end.reason as Error).message : null));
}
