/**
 * The backend's control plane (Linux blkback/xenbus.c in behaviour): watches `backend/vbd`, publishes keys, follows the
 * frontend's states and connects and disconnects rings. The data plane runs elsewhere, behind `BlkbackDataPlane`.
 *
 * own state   frontend   does
 * 1           any        probe keys, 2
 * 2, 3        3 or 4     and physical-device is known: map ring, bind port, connect keys, 4
 * 4           4          when the disk has another size: `sectors` and the same 4 again
 * 4, 2        5          let the ring go, 5
 * 4, 5, 2     6, gone    let the ring go, 6; back to 2 when the frontend starts again while online
 */

import {
  BACKEND_OFFER_KEY,
  BACKEND_OFFERS,
  type BackendOffers,
  type FrontendKeys,
  probeKeys,
  readFrontendKeys,
} from "./blkif/features.js";
import { domainPath, XENBUS_STATE, type XenbusState } from "./blkif/keys.js";
import { VDISK } from "./blkif/layout.js";
import { Coalescer, deviceFatal, readState, switchState, switchStateFrom } from "./xenbus.js";
import type { XenstoreClient } from "./xenstore/client.js";

export interface VbdId {
  readonly domid: number;
  readonly devid: number;
}

/** What the data plane knows of an opened disk. Bytes. */
export interface DiskFacts {
  readonly size: number;
  /** Bytes behind `size` that fill no sector. */
  readonly hiddenBytes: number;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly writable: boolean;
  readonly canDiscard: boolean;
  readonly discardGranularity: number;
}

/** All that a data plane needs to reach a frontend. */
export interface FrontendRings extends FrontendKeys {
  /** As was offered; 0: no indirect requests. */
  readonly maxIndirectSegments: number;
}

/** Rings and disks, wherever they run. Disks are opened by the toolstack's script step and outlive a reconnecting frontend. */
export interface BlkbackDataPlane {
  facts(id: VbdId): DiskFacts | undefined;
  connect(id: VbdId, rings: FrontendRings): Promise<void>;
  disconnect(id: VbdId): Promise<void>;
}

export interface BlkbackOptions {
  readonly store: XenstoreClient;
  readonly domid: number;
  readonly plane: BlkbackDataPlane;
  /** Default: all that the data plane can. */
  readonly offers?: BackendOffers;
  onError(message: string): void;
}

interface Vbd {
  readonly id: VbdId;
  readonly dir: string;
  readonly frontendDir: string;
  connected: boolean;
  /** The data plane lost its rings: serve it again, or why it cannot be. */
  lost: { readonly reason: string | null } | undefined;
  /** As the frontend was told. */
  sectors: number;
  unwatch(): Promise<void>;
}

export class Blkback {
  readonly #options: BlkbackOptions;
  readonly #offers: BackendOffers;
  readonly #root: string;
  readonly #vbds = new Map<string, Vbd>();
  readonly #events: Coalescer;
  #unwatch: (() => Promise<void>) | undefined;

  constructor(options: BlkbackOptions) {
    this.#options = options;
    this.#offers = options.offers ?? BACKEND_OFFERS;
    this.#root = `${domainPath(options.domid)}/backend/vbd`;
    this.#events = new Coalescer(
      (key) => this.#reconcile(key),
      (key, error) => options.onError(`vbd ${key}: ${(error as Error).message}`),
    );
  }

  async start(): Promise<void> {
    this.#unwatch = await this.#options.store.watch(this.#root, "blkback", (path) => {
      const [domid, devid] = path.slice(this.#root.length + 1).split("/");
      if (domid && devid && isNumber(domid) && isNumber(devid)) this.#events.schedule(`${domid}/${devid}`);
      else if (domid && isNumber(domid))
        for (const key of this.#vbds.keys()) if (key.startsWith(`${domid}/`)) this.#events.schedule(key);
    });
  }

  async stop(): Promise<void> {
    await this.#unwatch?.();
    for (const vbd of this.#vbds.values()) await vbd.unwatch();
  }

  /**
   * The data plane lost the vbd's rings and can serve it again: offers itself anew, and takes up the rings of a frontend
   * that stayed Connected where they are. With a `reason` it cannot: the vbd is closed.
   */
  lost(id: VbdId, reason: string | null): void {
    const key = `${id.domid}/${id.devid}`;
    const vbd = this.#vbds.get(key);
    if (!vbd) return;
    vbd.lost = { reason };
    this.#events.schedule(key);
  }

  /** The disk behind a vbd has another size now: tells a connected frontend. */
  resized(id: VbdId): void {
    this.#events.schedule(`${id.domid}/${id.devid}`);
  }

  async #reconcile(key: string): Promise<void> {
    const { store } = this.#options;
    const dir = `${this.#root}/${key}`;
    const own = await readState(store, dir);
    const known = this.#vbds.get(key);
    if (own === XENBUS_STATE.Unknown) return known ? this.#remove(key, known) : undefined;
    const vbd = known ?? (await this.#probe(key, dir, own));
    if (!vbd) return;
    const frontend = await readState(store, vbd.frontendDir);
    try {
      await this.#follow(vbd, own, frontend);
    } catch (error) {
      await this.#disconnect(vbd);
      await deviceFatal(store, domainPath(this.#options.domid), vbd.dir, (error as Error).message);
      this.#options.onError(`vbd ${key}: ${(error as Error).message}`);
    }
  }

  /** Only a device in state 1 is probed: anything else was left over by somebody else. */
  async #probe(key: string, dir: string, own: XenbusState): Promise<Vbd | undefined> {
    if (own !== XENBUS_STATE.Initialising) return undefined;
    const { store } = this.#options;
    const frontendDir = await store.readOrNull(`${dir}/frontend`);
    if (!frontendDir) return undefined;
    const [domid, devid] = key.split("/").map(Number) as [number, number];
    const token = `blkback-${key}`;
    const unwatch = await store.watch(`${frontendDir}/state`, token, () => this.#events.schedule(key));
    const vbd: Vbd = { id: { domid, devid }, dir, frontendDir, connected: false, lost: undefined, sectors: 0, unwatch };
    this.#vbds.set(key, vbd);
    return vbd;
  }

  async #follow(vbd: Vbd, own: XenbusState, frontend: XenbusState): Promise<void> {
    const { store } = this.#options;
    const S = XENBUS_STATE;
    if (vbd.lost) return this.#recover(vbd, own);
    switch (own) {
      case S.Initialising:
        await this.#disconnect(vbd); // of a directory that was removed and made anew between two looks
        return this.#offer(vbd);
      case S.InitWait:
      case S.Initialised:
        if (frontend === S.Initialised || frontend === S.Connected) return this.#connect(vbd);
        break;
      case S.Connected:
        if (frontend === S.Connected) return this.#tellSize(vbd);
        break;
      case S.Closed:
        if (frontend === S.Initialising && (await store.readOrNull(`${vbd.dir}/online`)) === "1")
          return this.#offer(vbd);
        return;
    }
    if (frontend === S.Closing && own !== S.Closing) {
      await this.#disconnect(vbd);
      return switchState(store, vbd.dir, S.Closing);
    }
    // Unknown: the frontend's directory was removed, which is how a forced detach looks from here.
    if (frontend === S.Closed || (frontend === S.Unknown && (vbd.connected || own === S.Closing))) {
      await this.#disconnect(vbd);
      return switchState(store, vbd.dir, S.Closed);
    }
  }

  async #offer(vbd: Vbd): Promise<void> {
    const keys = probeKeys(this.#offers);
    await switchState(this.#options.store, vbd.dir, XENBUS_STATE.InitWait, keys, BACKEND_OFFER_KEY);
  }

  /** Waits for nothing: comes again when the frontend's keys or `physical-device` appear. */
  async #connect(vbd: Vbd): Promise<void> {
    const { store, plane } = this.#options;
    const facts = plane.facts(vbd.id);
    if (!facts || (await store.readOrNull(`${vbd.dir}/physical-device`)) === null) return;
    await this.#disconnect(vbd);
    await this.#takeRings(vbd);
    vbd.sectors = sectorsOf(facts);
    const cdrom = (await store.readOrNull(`${vbd.dir}/device-type`)) === "cdrom";
    await switchState(store, vbd.dir, XENBUS_STATE.Connected, connectKeys(facts, this.#offers, cdrom));
  }

  /** Linux calls it rebinding (allow_rebind): the frontend ignores the states before Connected, its rings are as they were. */
  async #recover(vbd: Vbd, own: XenbusState): Promise<void> {
    const { reason } = vbd.lost!;
    vbd.lost = undefined;
    const wasConnected = vbd.connected;
    vbd.connected = false;
    const { store, domid } = this.#options;
    if (reason !== null) return deviceFatal(store, domainPath(domid), vbd.dir, reason, XENBUS_STATE.Closed);
    if (wasConnected && own === XENBUS_STATE.Connected) return this.#offer(vbd);
    // The frontend closes when the last request is answered, and says so only then.
    const closing = wasConnected && own === XENBUS_STATE.Closing;
    if (closing && (await readState(store, vbd.frontendDir)) === XENBUS_STATE.Connected) await this.#takeRings(vbd);
    this.#events.schedule(`${vbd.id.domid}/${vbd.id.devid}`); // whatever its state asks for now
  }

  async #takeRings(vbd: Vbd): Promise<void> {
    const { store, plane } = this.#options;
    const read = (name: string) => store.readOrNull(`${vbd.frontendDir}/${name}`);
    const keys = await readFrontendKeys(read, this.#offers);
    await plane.connect(vbd.id, { ...keys, maxIndirectSegments: this.#offers.maxIndirectSegments });
    vbd.connected = true;
  }

  async #tellSize(vbd: Vbd): Promise<void> {
    const facts = this.#options.plane.facts(vbd.id);
    if (!facts || !vbd.connected || sectorsOf(facts) === vbd.sectors) return;
    vbd.sectors = sectorsOf(facts);
    const { Connected } = XENBUS_STATE;
    await switchStateFrom(this.#options.store, vbd.dir, Connected, Connected, { sectors: vbd.sectors });
  }

  async #disconnect(vbd: Vbd): Promise<void> {
    if (!vbd.connected) return;
    vbd.connected = false;
    await this.#options.plane.disconnect(vbd.id);
  }

  async #remove(key: string, vbd: Vbd): Promise<void> {
    this.#vbds.delete(key);
    await vbd.unwatch();
    await this.#disconnect(vbd);
  }
}

/** What Linux writes in the transaction that ends in Connected. Sectors are 512 bytes whatever `sector-size` says. */
function connectKeys(facts: DiskFacts, offers: BackendOffers, cdrom: boolean): Record<string, number> {
  return {
    "feature-flush-cache": facts.writable ? 1 : 0,
    "feature-barrier": facts.writable ? 1 : 0,
    "feature-discard": facts.canDiscard ? 1 : 0,
    ...(facts.canDiscard
      ? { "discard-granularity": facts.discardGranularity, "discard-alignment": 0, "discard-secure": 0 }
      : {}),
    "feature-persistent": offers.persistent ? 1 : 0,
    sectors: sectorsOf(facts),
    info: (facts.writable ? 0 : VDISK.READONLY) | (cdrom ? VDISK.CDROM : 0),
    "sector-size": facts.sectorSize,
    "physical-sector-size": facts.physicalSectorSize,
  };
}

function sectorsOf({ size }: DiskFacts): number {
  return Math.floor(size / 512);
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}
