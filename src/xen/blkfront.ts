/**
 * The frontend's control plane (Linux blkfront.c in behaviour), run in the guest's own thread: finds the vbds that the
 * toolstack put below `device/vbd`, offers rings, and turns a connected one into a block device.
 */
import { type BlockDevice, defineDevice } from "../block/device.js";
import type { FrontRingState } from "./blkfront-queue.js";
import { BlkfrontRings } from "./blkfront-rings.js";
import {
  chooseFeatures,
  chooseRings,
  FRONTEND_RING_KEY,
  FRONTEND_WISHES,
  type FrontendWishes,
  frontendKeys,
  readWishes,
} from "./blkif/features.js";
import { domainPath, XENBUS_STATE } from "./blkif/keys.js";
import { ABIS, VDISK } from "./blkif/layout.js";
import { vdevFromNumber } from "./blkif/vdev.js";
import type { XenPlatform } from "./platform/platform.js";
import type { VcpuLoop } from "./vcpu-loop.js";
import { Coalescer, deviceFatal, readState, switchState } from "./xenbus.js";
import type { XenstoreClient } from "./xenstore/client.js";

export interface BlkfrontOptions {
  readonly platform: XenPlatform;
  readonly store: XenstoreClient;
  readonly loop: VcpuLoop;
  /** What it takes of a backend's offers. Default: as Linux's blkfront, and what the vbd's own keys say. */
  readonly wishes?: FrontendWishes;
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
  device: BlockDevice | undefined;
  /** As the device shows them: `sectors` follows the backend's. */
  facts: FrontendFacts | undefined;
  unwatch(): Promise<void>;
}

export class Blkfront {
  readonly #options: BlkfrontOptions;
  readonly #root: string;
  readonly #vbds = new Map<string, Vbd>();
  readonly #events: Coalescer;

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

  async #reconcile(key: string): Promise<void> {
    const { store } = this.#options;
    const dir = `${this.#root}/${key}`;
    const own = await readState(store, dir);
    const known = this.#vbds.get(key);
    if (own === XENBUS_STATE.Unknown) return known ? this.#remove(key, known) : undefined;
    // State 1 beside a ring of ours: the directory was removed and made anew between two looks. What was there goes first.
    const stale = known?.rings !== undefined && own === XENBUS_STATE.Initialising;
    if (stale) await this.#remove(key, known);
    const vbd = (stale ? undefined : known) ?? (await this.#probe(key, dir));
    if (!vbd) return;
    const backend = await readState(store, vbd.backendDir);
    const S = XENBUS_STATE;
    try {
      if (own === S.Initialising && (backend === S.InitWait || backend === S.Initialised)) await this.#offerRings(vbd);
      else if (own === S.Initialised && backend === S.Connected) await this.#connect(vbd);
      else if (own === S.Connected && backend === S.Connected) await this.#followSize(vbd);
    } catch (error) {
      await deviceFatal(store, domainPath(this.#options.platform.domid), vbd.dir, (error as Error).message);
      this.#options.onError(`vbd ${key}: ${(error as Error).message}`);
      return;
    }
    if (backend === S.Closing && own !== S.Closed) await this.#close(vbd);
    else if (backend === S.Closed || backend === S.Unknown) {
      await this.#releaseRings(vbd);
      // A backend that closed without asking first; one that is gone may come back.
      if (backend === S.Closed && own === S.Connected) await switchState(store, vbd.dir, S.Closed);
    }
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
      device: undefined,
      facts: undefined,
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
    if (!valid)
      return deviceFatal(
        store,
        domainPath(this.#options.platform.domid),
        vbd.dir,
        "reading the backend's sectors and sector-size",
      );
    const canDiscard = (await number("feature-discard")) === 1;
    const read = (name: string) => store.readOrNull(`${vbd.backendDir}/${name}`);
    const trusted = (await store.readOrNull(`${vbd.dir}/trusted`)) !== "0";
    vbd.rings!.negotiate({ ...(await chooseFeatures(read, vbd.wishes)), trusted });
    vbd.facts = { ...facts, canDiscard };
    vbd.device = frontendDevice(vbd.devid, vbd.rings!, vbd.facts);
    vbd.rings!.addTo(loop);
    await this.#options.onConnected(vbd.devid, vbd.device);
    await switchState(store, vbd.dir, XENBUS_STATE.Connected);
  }

  /** The backend says Connected again when its disk has another size. */
  async #followSize({ devid, backendDir, device, facts }: Vbd): Promise<void> {
    const sectors = Number((await this.#options.store.readOrNull(`${backendDir}/sectors`)) ?? Number.NaN);
    if (!device || !facts || sectors === facts.sectors) return;
    if (!Number.isSafeInteger(sectors * 512) || sectors <= 0)
      return this.#options.onError(`vbd ${devid}: the backend's new size of ${sectors} sectors is none`);
    facts.sectors = sectors;
    await this.#options.onResized?.(devid);
  }

  /** Lets the users and the outstanding requests end. The rings are kept until the backend has let go of it. */
  async #close(vbd: Vbd): Promise<void> {
    await this.#stopUse(vbd);
    await vbd.rings?.idle();
    await switchState(this.#options.store, vbd.dir, XENBUS_STATE.Closed);
  }

  async #stopUse(vbd: Vbd): Promise<void> {
    if (!vbd.device) return;
    vbd.device = undefined;
    await this.#options.onClosing(vbd.devid);
  }

  /** What is outstanding fails first: the disk's users cannot stop while they wait for a backend that has gone. */
  async #releaseRings(vbd: Vbd): Promise<void> {
    const { rings } = vbd;
    vbd.rings = undefined;
    rings?.close(`Cannot use ${vdevFromNumber(vbd.devid).name}: it was detached`);
    rings?.removeFrom(this.#options.loop);
    await this.#stopUse(vbd);
  }

  async #remove(key: string, vbd: Vbd): Promise<void> {
    this.#vbds.delete(key);
    await vbd.unwatch();
    await this.#releaseRings(vbd);
  }
}

export interface FrontendFacts {
  /** Of 512 bytes; may change. */
  sectors: number;
  readonly sectorSize: number;
  readonly info: number;
  readonly canDiscard: boolean;
}

/** The guest's disk as a BlockDevice. Its map is all data: the protocol cannot ask what is stored. */
export function frontendDevice(devid: number, rings: BlkfrontRings, facts: FrontendFacts): BlockDevice {
  return defineDevice({
    label: `/dev/${vdevFromNumber(devid).name}`,
    get size() {
      return facts.sectors * 512;
    },
    blockSize: facts.sectorSize,
    writable: (facts.info & VDISK.READONLY) === 0,
    read: (offset, into) => rings.read(offset, into),
    write: (offset, data) => rings.write(offset, data),
    flush: () => rings.flush(),
    ...(facts.canDiscard ? { discard: (offset: number, length: number) => rings.discard(offset, length) } : {}),
  });
}
