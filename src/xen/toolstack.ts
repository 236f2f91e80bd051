/**
 * What libxl does for a vbd: writes both directories in one transaction, waits for the backend, runs the script step that
 * opens the disk, waits until both ends are Connected, and takes everything back when that does not happen.
 * Decisions come from its own record below /libxl, never from what a guest may write (XSA-175, XSA-178).
 */
import { DiskError } from "../errors.js";
import type { VbdId } from "./blkback.js";
import { backendPath, domainPath, frontendPath, libxlPath, XENBUS_STATE, type XenbusState } from "./blkif/keys.js";
import type { Vdev } from "./blkif/vdev.js";
import { backendKeys, domainKeys, frontendKeys, type StoreKeys } from "./toolstack-keys.js";
import { journalLines, type VbdJournal } from "./vbd-journal.js";
import { describeStates, readState, switchState, waitForState } from "./xenbus.js";
import type { StoreTransaction, XenstoreClient } from "./xenstore/client.js";

/** One disk of a domain, as its configuration says. */
export interface VbdSpec {
  readonly vdev: Vdev;
  /** What to open: a DISK of the command line. */
  readonly target: string;
  readonly writable: boolean;
  readonly options?: VbdOptions;
}

/** What an xl disk specification can add; each default is libxl's. */
export interface VbdOptions {
  /** The device's name as it was configured; default: its canonical name. */
  readonly dev?: string;
  readonly backendType?: "phy" | "qdisk";
  /** A removable drive with a disk that can only be read. */
  readonly cdrom?: boolean;
  /** Whether the backend may offer discards; default: for a writable disk. */
  readonly discard?: boolean;
  readonly directIoSafe?: boolean;
  /** False: the frontend is to trust the backend with nothing but the data (XSA-403). */
  readonly trusted?: boolean;
  /** Rings that the frontend is to ask for, and pages of each as a power of two; default: the frontend's own. */
  readonly queues?: number;
  readonly ringPageOrder?: number;
  /** Of the image; default: as its name says. */
  readonly format?: string;
  /** Files that the image names may be opened. */
  readonly allowBacking?: boolean;
}

/** Who a domain is, as its configuration says. */
export interface DomainIdentity {
  /** `pv` when nothing is said; recorded, every guest here has PV drivers. */
  readonly type?: string;
  readonly uuid?: string;
  readonly vcpus?: number;
}

export interface DomainFacts extends DomainIdentity {
  /** KiB, both. */
  readonly memory: number;
  readonly maxmem: number;
}

/** The hotplug script's job: open and close the disk behind a vbd. */
export interface DiskScript {
  /** Returns what goes into `physical-device` (hex major:minor) and `physical-device-path`. */
  add(id: VbdId, spec: VbdSpec): Promise<{ physicalDevice: string; path: string }>;
  remove(id: VbdId): Promise<void>;
}

export interface ToolstackOptions {
  readonly store: XenstoreClient;
  readonly script: DiskScript;
  /** Milliseconds for each step; libxl waits 10 s. */
  readonly timeoutMs?: number;
  /** Told of each step of an attach or detach; a failure carries it as `details.journal`. */
  readonly journal?: VbdJournal;
}

/** What a guest writes below `control`: its acknowledgement, and what it follows. */
const GUEST_CONTROLS = ["shutdown", "feature-poweroff", "feature-reboot", "feature-suspend"].map(
  (key) => `control/${key}`,
);

export class Toolstack {
  readonly #store: XenstoreClient;
  readonly #script: DiskScript;
  readonly #timeoutMs: number;
  readonly #journal: VbdJournal | undefined;

  constructor(options: ToolstackOptions) {
    this.#store = options.store;
    this.#script = options.script;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#journal = options.journal;
  }

  /** The directories of a new domain. Domain-0's are written the same way, by xen-init-dom0 on a real host. */
  async createDomainTree(domid: number, name: string, domain: DomainFacts): Promise<void> {
    const home = domainPath(domid);
    const readable = domid === 0 ? ["n0"] : ["n0", `r${domid}`];
    const own = [`n${domid}`];
    await this.#store.transaction(async (tx) => {
      await this.#mkdir(home, readable, tx);
      for (const [key, value] of Object.entries(domainKeys(domid, name, domain)))
        await this.#store.write(`${home}/${key}`, String(value), tx);
      for (const dir of ["device", "device/vbd", "control"]) await this.#mkdir(`${home}/${dir}`, readable, tx);
      for (const dir of ["data", "drivers", "feature", "attr", "error", ...GUEST_CONTROLS])
        await this.#mkdir(`${home}/${dir}`, own, tx);
      await this.#mkdir(`/libxl/${domid}`, ["n0"], tx);
      await this.#store.write(`/libxl/${domid}/type`, domain.type ?? "pv", tx);
      if (domain.uuid) await this.#fill(`/vm/${domain.uuid}`, readable, { name, uuid: domain.uuid }, tx);
    });
  }

  async removeDomainTree(domid: number): Promise<void> {
    await this.#journal?.endAll(domid);
    await this.#store.transaction(async (tx) => {
      const vm = await this.#store.readOrNull(`${domainPath(domid)}/vm`, tx);
      if (vm !== null && /^\/vm\/[0-9a-f-]+$/.test(vm)) await this.#remove(vm, tx);
      for (const dir of [domainPath(domid), `/libxl/${domid}`, `${domainPath(0)}/backend/vbd/${domid}`])
        await this.#remove(dir, tx);
    });
  }

  /** Attaches a disk; resolves when both ends are Connected. On failure nothing of it is left. */
  async attach(domid: number, spec: VbdSpec): Promise<void> {
    const id = { domid, devid: spec.vdev.number };
    if ((await this.#store.readOrNull(`${libxlPath(domid, id.devid)}/frontend`)) !== null)
      throw new DiskError(
        "DENIED",
        `Cannot attach ${spec.vdev.name}: domain ${domid} has a device of that number already`,
      );
    await this.#journal?.begin(id);
    try {
      this.#step(id, "writes both directories");
      await this.#createDirectories(id, spec);
      await this.#waitBackendReady(id, spec);
      this.#step(id, `opens ${spec.target}`);
      const opened = await this.#script.add(id, spec);
      this.#step(id, "tells the backend of the open disk (physical-device)");
      await this.#publishDisk(id, opened);
      await this.waitConnected(id, spec);
      this.#step(id, "done: both ends are Connected");
    } catch (error) {
      this.#step(id, "gives up, takes everything back");
      const told = this.#withJournal(id, error);
      await this.#takeBack(id);
      throw told;
    }
  }

  /** Detaches politely: both ends close, in time, or nothing changes but the request. `force` does not ask the frontend. */
  async detach(id: VbdId, name: string, options: { force?: boolean } = {}): Promise<void> {
    const backend = backendPath(0, id.domid, id.devid);
    if (options.force) return this.#takeBack(id);
    this.#step(id, "asks the backend to close, waits for Closed");
    await switchState(this.#store, backend, XENBUS_STATE.Closing, { online: 0 });
    const state = await waitForState(
      this.#store,
      backend,
      [XENBUS_STATE.Closed, XENBUS_STATE.Unknown],
      this.#timeoutMs,
    );
    if (state === XENBUS_STATE.Closed || state === XENBUS_STATE.Unknown) return this.#takeBack(id);
    const states = describeStates(await readState(this.#store, frontendPath(id.domid, id.devid)), state);
    this.#step(id, "gives up, leaves all as it is");
    const error = new DiskError(
      "IO",
      `Cannot detach ${name}: ${states} after ${this.#timeoutMs / 1000} s, allowed with --force`,
    );
    throw this.#withJournal(id, error);
  }

  /** States of both ends. */
  async states(id: VbdId): Promise<{ frontend: XenbusState; backend: XenbusState }> {
    return {
      frontend: await readState(this.#store, frontendPath(id.domid, id.devid)),
      backend: await readState(this.#store, backendPath(0, id.domid, id.devid)),
    };
  }

  async #createDirectories(id: VbdId, spec: VbdSpec): Promise<void> {
    const frontend = frontendPath(id.domid, id.devid);
    const backend = backendPath(0, id.domid, id.devid);
    const offered = backendKeys(id, spec);
    await this.#store.transaction(async (tx) => {
      const backendPerms = id.domid === 0 ? ["n0"] : ["n0", `r${id.domid}`];
      await this.#fill(libxlPath(id.domid, id.devid), ["n0"], { ...offered, backend }, tx);
      await this.#fill(frontend, [`n${id.domid}`, "r0"], frontendKeys(id, spec), tx);
      await this.#fill(backend, backendPerms, offered, tx);
    });
  }

  async #waitBackendReady(id: VbdId, spec: VbdSpec): Promise<void> {
    const backend = backendPath(0, id.domid, id.devid);
    this.#step(id, "waits for the backend to offer itself (InitWait)");
    const state = await waitForState(this.#store, backend, [XENBUS_STATE.InitWait], this.#timeoutMs);
    if (state !== XENBUS_STATE.InitWait)
      throw await this.#stuck(id, spec, "waiting for the backend to offer itself (InitWait)");
  }

  async #publishDisk(id: VbdId, opened: { physicalDevice: string; path: string }): Promise<void> {
    const backend = backendPath(0, id.domid, id.devid);
    await this.#store.transaction(async (tx) => {
      await this.#store.write(`${backend}/physical-device-path`, opened.path, tx);
      await this.#store.write(`${backend}/hotplug-status`, "connected", tx);
      await this.#store.write(`${backend}/physical-device`, opened.physicalDevice, tx);
    });
  }

  /** Of a suspended domain: closes the disk behind a vbd whose frontend has let its rings go. The vbd stays. */
  async closeDisk(id: VbdId): Promise<void> {
    await this.#script.remove(id);
  }

  /** Opens it again. */
  async reopenDisk(id: VbdId, spec: VbdSpec): Promise<void> {
    await this.#publishDisk(id, await this.#script.add(id, spec));
  }

  /** Waits until both ends are Connected; throws, and leaves all as it is, when one ends otherwise or takes too long. */
  async waitConnected(id: VbdId, spec: VbdSpec): Promise<void> {
    for (const [dir, other] of [
      [backendPath(0, id.domid, id.devid), "backend"],
      [frontendPath(id.domid, id.devid), "frontend"],
    ] as const) {
      this.#step(id, `waits for the ${other} to be Connected`);
      const ended = [XENBUS_STATE.Connected, XENBUS_STATE.Closing, XENBUS_STATE.Closed];
      const state = await waitForState(this.#store, dir, ended, this.#timeoutMs);
      if (state !== XENBUS_STATE.Connected)
        throw await this.#stuck(id, spec, `waiting for the ${other} to be Connected`);
    }
  }

  async #stuck(id: VbdId, spec: VbdSpec, step: string): Promise<DiskError> {
    const { frontend, backend } = await this.states(id);
    const errors = [
      `${domainPath(0)}/error/backend/vbd/${id.domid}/${id.devid}`,
      `${domainPath(id.domid)}/error/device/vbd/${id.devid}`,
    ];
    const told = await Promise.all(errors.map((path) => this.#store.readOrNull(`${path}/error`)));
    const reason = told.find((text) => text !== null);
    const why = reason ? `, ${reason.replace(/^\d+ /, "")}` : "";
    return new DiskError(
      "IO",
      `Cannot attach ${spec.vdev.name} to domain ${id.domid}: ${step}, ${describeStates(frontend, backend)}${why}`,
      {
        details: { domid: id.domid, vdev: spec.vdev.name, frontend, backend },
      },
    );
  }

  #step(id: VbdId, what: string): void {
    this.#journal?.step(id, what);
  }

  #withJournal(id: VbdId, error: unknown): unknown {
    if (!this.#journal || !(error instanceof DiskError)) return error;
    const details = { ...error.details, journal: journalLines(this.#journal.of(id)) };
    return new DiskError(error.code, error.message, { details, cause: error.cause });
  }

  /** The frontend's directory first: its driver sees the device go; then the backend's ring, then the disk itself. */
  async #takeBack(id: VbdId): Promise<void> {
    const remove = (dir: string) => this.#store.transaction((tx) => this.#remove(dir, tx));
    await remove(frontendPath(id.domid, id.devid));
    await remove(backendPath(0, id.domid, id.devid));
    await remove(libxlPath(id.domid, id.devid));
    await remove(`${domainPath(0)}/error/backend/vbd/${id.domid}/${id.devid}`);
    await remove(`${domainPath(id.domid)}/error/device/vbd/${id.devid}`);
    await this.#script.remove(id);
    await this.#journal?.end(id);
  }

  async #fill(dir: string, permissions: readonly string[], keys: StoreKeys, tx: StoreTransaction): Promise<void> {
    await this.#mkdir(dir, permissions, tx);
    for (const [key, value] of Object.entries(keys)) await this.#store.write(`${dir}/${key}`, String(value), tx);
  }

  async #mkdir(path: string, permissions: readonly string[], tx: StoreTransaction): Promise<void> {
    await this.#store.mkdir(path, tx);
    await this.#store.setPerms(path, permissions, tx);
  }

  async #remove(path: string, tx: StoreTransaction): Promise<void> {
    if ((await this.#store.readOrNull(path, tx)) !== null) await this.#store.rm(path, tx);
  }
}
