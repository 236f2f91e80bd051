/** The domains of a host: who they are, how they come to life, and how they end. */
import { DiskError } from "../errors.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { VbdId } from "../xen/blkback.js";
import type { StoredRun } from "../xen/blkfront-extents.js";
import type { Vdev } from "../xen/blkif/vdev.js";
import { XEN_WORDS, XENSTORE_FRAME } from "../xen/platform/simulated/domain-pages.js";
import { SHUTDOWN } from "../xen/platform/simulated/hypercalls.js";
import type { CreatedDomain, DomainChange, Hypervisor } from "../xen/platform/simulated/hypervisor.js";
import { createXenstorePage } from "../xen/platform/simulated/xenstore-page.js";
import type { Toolstack, VbdOptions } from "../xen/toolstack.js";
import type { XenstoreClient } from "../xen/xenstore/client.js";
import type { XenstoreRings } from "../xen/xenstore/ring-server.js";
import type { Xenstored } from "../xen/xenstore/server.js";
import type { DomainConfig, DomainState } from "./api-types.js";
import { Guest } from "./guest.js";
import type { OutstandingCalls } from "./guest-thread.js";
import { domainDir, domainSockets } from "./places.js";

export interface AttachedVbd {
  readonly vdev: Vdev;
  readonly disk: string;
  readonly access: "rw" | "ro";
  readonly options?: VbdOptions;
}

export interface DomainOptions {
  /** Bytes of guest memory. */
  readonly memory?: number;
  /** False: a guest without a block driver. */
  readonly blkfront?: boolean;
  /** What the store tells of it. */
  readonly config?: DomainConfig;
  /** What its disks have to do before they are used: it was suspended elsewhere. */
  readonly restored?: readonly OutstandingCalls[];
}

/** A domain as the toolstack has it: its guest, what it was made from, and its disks by device number. */
export class Domain {
  readonly guest: Guest;
  readonly options: DomainOptions;
  readonly vbds = new Map<number, AttachedVbd>();
  readonly #hypervisor: Hypervisor;
  #busy: string | undefined;

  constructor(guest: Guest, options: DomainOptions, hypervisor: Hypervisor) {
    this.guest = guest;
    this.options = options;
    this.#hypervisor = hypervisor;
  }

  get domid(): number {
    return this.guest.domid;
  }

  get name(): string {
    return this.guest.name;
  }

  get state(): DomainState {
    if (this.guest.crashed) return "crashed";
    const { state = "dying", shutdownReason } = this.#hypervisor.domain(this.domid) ?? {};
    return state === "shutdown" && shutdownReason === SHUTDOWN.suspend ? "suspended" : state;
  }

  /** SHUTDOWN_* when its guest has shut down or was suspended, null when it has not within `timeoutMs`. */
  async waitShutdown(timeoutMs: number): Promise<number | null> {
    const reason = () => this.#hypervisor.domain(this.domid)?.shutdownReason ?? null;
    await this.guest.waitFor(() => reason() !== null || this.guest.crashed, timeoutMs);
    return reason();
  }

  /** Stops its vcpus; false, and they go on, when one does not stop within `timeoutMs`. */
  async pause(timeoutMs: number): Promise<boolean> {
    this.#hypervisor.pause(this.domid);
    const stopped = await this.guest.stopped(timeoutMs);
    if (!stopped) this.unpause();
    return stopped;
  }

  unpause(): void {
    this.#hypervisor.unpause(this.domid);
    Atomics.notify(new Int32Array(this.guest.pages.xen), XEN_WORDS.paused); // its thread waits there
    this.guest.goesOn();
  }

  /** Of a suspended domain: it is not shut down any more, and its guest connects its disks again. */
  async resume(): Promise<void> {
    this.#hypervisor.resume(this.domid);
    await this.guest.resume();
  }

  /** What is being done with the domain as a whole, or undefined. */
  get busy(): string | undefined {
    return this.#busy;
  }

  /** Runs `task` unless something else changes the domain as a whole. `doing` is what it is in the meantime: `being saved`. */
  async exclusively<T>(verb: string, doing: string, task: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new DiskError("DENIED", `Cannot ${verb} domain ${this.name}: it is ${this.#busy}`);
    this.#busy = doing;
    try {
      return await task();
    } finally {
      this.#busy = undefined;
    }
  }

  /** Its guest can answer. */
  needRunning(verb: string): void {
    const { state } = this;
    if (state === "running") return;
    const hint = state === "paused" || state === "suspended" ? ", allowed after 'xvd domain unpause'" : "";
    throw new DiskError("DENIED", `Cannot ${verb} domain ${this.name}: it is ${state}${hint}`);
  }
}

export interface DomainsOptions {
  readonly paths: XvdPaths;
  readonly xenstored: Xenstored;
  /** Between xenstored and the guests. */
  readonly rings: XenstoreRings;
  readonly store: XenstoreClient;
  readonly toolstack: Toolstack;
  readonly hypervisor: Hypervisor;
  ensureDir(path: string): void;
  removeDir(path: string): void;
  /** A guest has shut down by itself or because it was asked to; `reason` is a SHUTDOWN_*. */
  onShutdown(domain: Domain, reason: number): void;
  /** A destroyed domain is gone for good. */
  onGone(): void;
  /** What of a range of a disk is stored. */
  extents(id: VbdId, offset: number, length: number): Promise<readonly StoredRun[]>;
  onError(message: string): void;
}

export const DEFAULT_MEMORY = 64 << 20;
export class Domains {
  readonly #options: DomainsOptions;
  readonly #domains = new Map<number, Domain>();
  /** Names of domains that are being created. */
  readonly #booting = new Set<string>();
  /** Guests that moved away and still serve clients. */
  readonly #moved = new Set<Guest>();
  /** Names of destroyed domains that somebody still has pages of. */
  readonly #dying = new Map<number, string>();

  constructor(options: DomainsOptions) {
    this.#options = options;
    options.hypervisor.onChange((change) => this.#onChange(change));
  }

  /** Domain-0 comes to life with the host. */
  async bootDom0(): Promise<void> {
    await this.#boot({ pages: this.#options.hypervisor.dom0 }, "Domain-0", {});
  }

  all(): Domain[] {
    return [...this.#domains.values()];
  }

  /** Destroyed, but somebody still has pages of them mapped. */
  dying(): { domid: number; name: string }[] {
    return [...this.#dying].map(([domid, name]) => ({ domid, name }));
  }

  /** By name or id. */
  find(which: string, verb: string): Domain {
    const isId = /^\d+$/.test(which);
    const domain = isId ? this.#domains.get(Number(which)) : this.all().find(({ name }) => name === which);
    if (domain) return domain;
    throw new DiskError("NOT_FOUND", `Cannot ${verb} domain ${which}: there is none of that ${isId ? "id" : "name"}`);
  }

  /** A guest, not the host itself. */
  findGuest(which: string, verb: string): Domain {
    const domain = this.find(which, verb);
    if (domain.domid !== 0) return domain;
    throw new DiskError("DENIED", `Cannot ${verb} Domain-0: it is the host itself, stop it with 'xvd dom0 stop'`);
  }

  /** Whether a domain of that name and UUID may be made now. */
  async checkNew(name: string, uuid: string | undefined): Promise<void> {
    this.#checkName(name);
    await this.#checkUuid(name, uuid);
  }

  async create(name: string, options: DomainOptions): Promise<Domain> {
    this.#checkName(name);
    this.#booting.add(name);
    try {
      await this.#checkUuid(name, options.config?.uuid);
      return await this.#create(name, options);
    } finally {
      this.#booting.delete(name);
    }
  }

  #checkName(name: string): void {
    if (!/^[A-Za-z0-9_.:+-]{1,64}$/.test(name) || /^\d+$/.test(name) || /^\.+$/.test(name))
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot create domain ${JSON.stringify(name)}: allowed are 1..64 letters, digits and _ . : + -, not digits alone`,
        { details: { usage: true } },
      );
    if (this.#booting.has(name) || this.all().some((domain) => domain.name === name))
      throw new DiskError("DENIED", `Cannot create domain ${name}: it exists already`);
  }

  async #checkUuid(name: string, uuid: string | undefined): Promise<void> {
    if (uuid !== undefined && (await this.#options.store.readOrNull(`/vm/${uuid}`)) !== null)
      throw new DiskError("DENIED", `Cannot create domain ${name}: another domain has its UUID ${uuid}`);
  }

  /** Ends its guest at once. Its disks stay until they are taken. */
  async stopGuest(domain: Domain): Promise<void> {
    await domain.guest.destroy();
    if (domain.domid !== 0) this.#options.hypervisor.releaseVcpu(domain.domid, 0);
  }

  /** The guest's thread goes on for its clients, but no domain of this host is behind it. */
  releaseGuest({ guest, domid }: Domain): void {
    this.#moved.add(guest);
    this.#options.hypervisor.releaseVcpu(domid, 0);
  }

  endMoved(guest: Guest): void {
    if (this.#moved.delete(guest)) void guest.destroy();
  }

  /** Of a domain whose guest and disks are gone: nothing of it is left, unless somebody still has pages of it. */
  async forget({ domid, name }: Domain): Promise<void> {
    const { paths, toolstack, hypervisor, removeDir } = this.#options;
    await toolstack.removeDomainTree(domid);
    this.#domains.delete(domid);
    this.#dying.set(domid, name);
    hypervisor.destroy(domid);
    hypervisor.platform.vcpu.dispatch(); // the store has heard of it before we return
    removeDir(domainDir(paths, name));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#moved].map((guest) => guest.destroy()));
  }

  async #create(name: string, options: DomainOptions): Promise<Domain> {
    const { hypervisor } = this.#options;
    const created = hypervisor.create(options.memory ?? DEFAULT_MEMORY);
    const { domid } = created.pages;
    try {
      const domain = await this.#boot(created, name, options);
      hypervisor.unpause(domid);
      return domain;
    } catch (error) {
      hypervisor.destroy(domid);
      throw error;
    }
  }

  async #boot(
    { pages, xenstorePort }: Pick<CreatedDomain, "pages"> & Partial<CreatedDomain>,
    name: string,
    options: DomainOptions,
  ): Promise<Domain> {
    const { paths, toolstack, store, hypervisor, ensureDir, extents, onError } = this.#options;
    const { domid } = pages;
    const socketDir = domainSockets(paths, name);
    ensureDir(socketDir);
    const { memory = pages.memory.byteLength >> 20, maxmem = memory, ...identity } = options.config ?? {};
    await toolstack.createDomainTree(domid, name, { ...identity, memory: memory * 1024, maxmem: maxmem * 1024 });
    const storePort = xenstorePort ?? this.#connectDom0();
    if (xenstorePort !== undefined) await store.introduce(domid, XENSTORE_FRAME, xenstorePort);
    const guest = await Guest.boot({
      domid,
      name,
      pages,
      dom0: hypervisor.dom0,
      storePort,
      socketDir,
      blkfront: options.blkfront ?? true,
      extents: (devid, offset, length) => extents({ domid, devid }, offset, length),
      ...(options.restored ? { restored: options.restored } : {}),
      onCrash: () => this.#crashed(domid, socketDir),
      onError,
    });
    const domain = new Domain(guest, options, hypervisor);
    this.#domains.set(domid, domain);
    return domain;
  }

  /** The kernel of Domain-0 is a client like any other, which nobody has to introduce; its port. */
  #connectDom0(): number {
    const { hypervisor, xenstored, rings } = this.#options;
    const { port } = createXenstorePage(hypervisor.dom0);
    rings.connect(xenstored, 0, port);
    return port;
  }

  #crashed(domid: number, socketDir: string): void {
    const { hypervisor, removeDir } = this.#options;
    removeDir(socketDir); // nobody answers there any more
    if (domid !== 0 && hypervisor.isAlive(domid)) hypervisor.shutdown(domid, SHUTDOWN.crash);
  }

  /** What VIRQ_DOM_EXC tells xenstored and the toolstack. */
  #onChange({ domid, state, shutdownReason }: DomainChange): void {
    const { xenstored, onShutdown, onGone } = this.#options;
    if (state === "dying") xenstored.domainDied(domid);
    if (state === "gone" && this.#dying.delete(domid)) onGone();
    if (state !== "shutdown") return;
    xenstored.domainShutdown(domid);
    const domain = this.#domains.get(domid);
    domain?.guest.look();
    if (domain && shutdownReason !== undefined) onShutdown(domain, shutdownReason);
  }
}
