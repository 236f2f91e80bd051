/**
 * The simulated Xen host: xenstored, the toolstack, blkback with its threads, and the domains.
 * The way of an attach: toolstack writes the vbd -> blkback offers itself -> the disk is opened in a backend thread ->
 * the guest's blkfront grants a ring -> blkback maps it -> both Connected -> the guest offers its sockets.
 */
import { DiskError } from "../errors.js";
import { MONOTONIC_CLOCK } from "../os/clock.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { Blkback } from "../xen/blkback.js";
import { stateName } from "../xen/blkif/keys.js";
import { collides, firstFree, parseVdev, type Vdev } from "../xen/blkif/vdev.js";
import { type BlockInfo, blockDevices } from "../xen/block-info.js";
import { XENSTORE_FRAME } from "../xen/platform/simulated/domain-pages.js";
import { SHUTDOWN } from "../xen/platform/simulated/hypercalls.js";
import { type CreatedDomain, type DomainChange, Hypervisor } from "../xen/platform/simulated/hypervisor.js";
import { createXenstorePage } from "../xen/platform/simulated/xenstore-page.js";
import { Toolstack } from "../xen/toolstack.js";
import { VcpuLoop } from "../xen/vcpu-loop.js";
import { createBootTree } from "../xen/xenstore/boot-tree.js";
import { XenstoreClient } from "../xen/xenstore/client.js";
import type { Clock } from "../xen/xenstore/clock.js";
import { XenstoreRings } from "../xen/xenstore/ring-server.js";
import { Xenstored } from "../xen/xenstore/server.js";
import { localTransport } from "../xen/xenstore/transport.js";
import type {
  AttachedDevice,
  AttachRequest,
  Dom0Record,
  DomainConfig,
  DomainInfo,
  ResizeRequest,
} from "./api-types.js";
import { BackendPool } from "./backend-pool.js";
import { Guest } from "./guest.js";
import { resizeVbd } from "./live-resize.js";
import { domainDir, domainSockets } from "./places.js";

export interface HostOptions {
  /** Where this run's sockets are, and where names of disks are looked up. */
  readonly paths: XvdPaths;
  readonly timeoutMs?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Makes a folder for its owner alone. */
  ensureDir(path: string): void;
  removeDir(path: string): void;
  onError(message: string): void;
  /** After every change, so that the next start can tell what this one held. */
  onChange(): void;
}

export interface DomainOptions {
  /** Bytes of guest memory. */
  readonly memory?: number;
  /** False: a guest without a block driver. */
  readonly blkfront?: boolean;
  /** What the store tells of it. */
  readonly config?: DomainConfig;
}

interface AttachedVbd {
  readonly vdev: Vdev;
  readonly disk: string;
  readonly access: "rw" | "ro";
}

const DEFAULT_MEMORY = 64 << 20;

export class Host {
  readonly #hypervisor = new Hypervisor(DEFAULT_MEMORY);
  /** Dom0's main thread: events for the host and the store. */
  readonly #vcpu = new VcpuLoop(this.#hypervisor.platform.vcpu, { blocking: false, spins: 0 });
  readonly #rings = new XenstoreRings({ platform: this.#hypervisor.platform, loop: this.#vcpu });
  readonly xenstored: Xenstored;
  readonly #options: HostOptions;
  readonly #store: XenstoreClient;
  readonly #guests = new Map<number, Guest>();
  readonly #vbds = new Map<number, Map<number, AttachedVbd>>();
  readonly #pool: BackendPool;
  readonly #toolstack: Toolstack;
  readonly #blkback: Blkback;
  /** Names of domains that are being created. */
  readonly #booting = new Set<string>();
  /** Names of destroyed domains that somebody still has pages of. */
  readonly #dying = new Map<number, string>();

  private constructor(options: HostOptions) {
    this.#options = options;
    const { onError, clock = MONOTONIC_CLOCK } = options;
    this.xenstored = new Xenstored({
      clock,
      domainExists: (domid) => this.#hypervisor.isAlive(domid),
      onIntroduce: (domid, _frame, port) => this.#rings.connect(this.xenstored, domid, port),
      onRelease: (domid) => this.#rings.disconnect(domid),
      onNotice: onError,
    });
    this.#store = new XenstoreClient(localTransport(this.xenstored, 0));
    this.#pool = new BackendPool({
      dom0: this.#hypervisor.dom0,
      paths: options.paths,
      now: clock.now,
      pagesOf: (domid) => this.#hypervisor.pages(domid),
      releaseVcpu: (vcpu) => this.#hypervisor.releaseVcpu(0, vcpu),
      onRestarted: (id) => this.#blkback.lost(id, null),
      onLost: (id, reason) => this.#blkback.lost(id, reason),
      onError,
    });
    this.#toolstack = new Toolstack({ store: this.#store, script: this.#pool, timeoutMs: options.timeoutMs });
    this.#blkback = new Blkback({ store: this.#store, domid: 0, plane: this.#pool, onError });
  }

  static async start(options: HostOptions): Promise<Host> {
    const host = new Host(options);
    host.#hypervisor.onChange((change) => host.#onDomainChange(change));
    void host.#vcpu.run();
    createBootTree(host.xenstored);
    await host.#blkback.start();
    await host.#boot({ pages: host.#hypervisor.dom0 }, "Domain-0", {});
    return host;
  }

  async createDomain(name: string, options: DomainOptions = {}): Promise<DomainInfo> {
    if (!/^[A-Za-z0-9_.:+-]{1,64}$/.test(name) || /^\d+$/.test(name) || /^\.+$/.test(name))
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot create domain ${JSON.stringify(name)}: allowed are 1..64 letters, digits and _ . : + -, not digits alone`,
        { details: { usage: true } },
      );
    if (this.#booting.has(name) || [...this.#guests.values()].some((guest) => guest.name === name))
      throw new DiskError("DENIED", `Cannot create domain ${name}: it exists already`);
    this.#booting.add(name);
    try {
      const uuid = options.config?.uuid;
      if (uuid !== undefined && (await this.#store.readOrNull(`/vm/${uuid}`)) !== null)
        throw new DiskError("DENIED", `Cannot create domain ${name}: another domain has its UUID ${uuid}`);
      const created = this.#hypervisor.create(options.memory ?? DEFAULT_MEMORY);
      const { domid } = created.pages;
      try {
        await this.#boot(created, name, options);
      } catch (error) {
        this.#hypervisor.destroy(domid);
        throw error;
      }
      this.#hypervisor.unpause(domid);
      this.#options.onChange();
      return await this.#describeDomain(this.#guests.get(domid)!);
    } finally {
      this.#booting.delete(name);
    }
  }

  async domain(which: string): Promise<DomainInfo> {
    return this.#describeDomain(this.#guest(which, "describe"));
  }

  /** The domain's vbds as the store has them. */
  async blockDevices(which: string): Promise<BlockInfo[]> {
    return blockDevices(this.#store, this.#guest(which, "list block devices of").domid);
  }

  /** Ends the domain as a power cut would, then takes its devices back. */
  async destroyDomain(which: string): Promise<void> {
    const guest = this.#guest(which, "destroy");
    if (guest.domid === 0)
      throw new DiskError("DENIED", "Cannot destroy Domain-0: it is the host itself, stop it with 'xvd dom0 stop'");
    await guest.destroy();
    this.#hypervisor.releaseVcpu(guest.domid, 0);
    for (const [devid, vbd] of this.#vbds.get(guest.domid) ?? []) {
      await this.#toolstack.detach({ domid: guest.domid, devid }, vbd.vdev.name, { force: true });
    }
    this.#vbds.delete(guest.domid);
    await this.#toolstack.removeDomainTree(guest.domid);
    this.#guests.delete(guest.domid);
    this.#dying.set(guest.domid, guest.name);
    this.#hypervisor.destroy(guest.domid);
    this.#hypervisor.platform.vcpu.dispatch(); // the store has heard of it before we return
    await this.#pool.forget(guest.domid);
    this.#options.removeDir(domainDir(this.#options.paths, guest.name));
    this.#options.onChange();
  }

  async attach(request: AttachRequest): Promise<AttachedDevice> {
    const guest = this.#guest(request.domain ?? "0", `attach ${request.disk} to`);
    if (guest.crashed)
      throw new DiskError("IO", `Cannot attach ${request.disk} to domain ${guest.name}: it has crashed`);
    const vbds = this.#vbds.get(guest.domid)!;
    const vdev =
      request.vdev === undefined ? firstFree([...vbds.values()].map((other) => other.vdev)) : parseVdev(request.vdev);
    const taken = [...vbds.values()].find((other) => collides(other.vdev, vdev));
    if (taken)
      throw new DiskError(
        "DENIED",
        `Cannot attach ${request.disk} as ${vdev.name}: ${taken.disk} is attached as ${taken.vdev.name} in ${guest.name}`,
      );
    const access = request.access ?? "rw";
    this.#refuseSharing(request.disk, access);
    vbds.set(vdev.number, { vdev, disk: request.disk, access }); // holds the number while the attach is under way
    try {
      await this.#toolstack.attach(guest.domid, {
        vdev,
        target: request.disk,
        writable: access === "rw",
        ...(request.options ? { options: request.options } : {}),
      });
    } catch (error) {
      vbds.delete(vdev.number);
      throw error;
    }
    this.#options.onChange();
    return this.#describeDevice(guest, vdev.number);
  }

  /** `which` is a device name, a device number or the disk behind it. */
  async detach(which: string, options: { domain?: string; force?: boolean } = {}): Promise<AttachedDevice> {
    const { guest, devid, vbd } = this.#findVbd(which, options.domain);
    const device = await this.#describeDevice(guest, devid);
    if (device.connections > 0 && !options.force) {
      const clients = `${device.connections} client${device.connections > 1 ? "s are" : " is"} connected to its sockets in ${guest.socketDir}`;
      throw new DiskError(
        "DENIED",
        `Cannot detach ${vbd.vdev.name} from ${guest.name}: it is in use, ${clients}, allowed with --force`,
      );
    }
    await this.#toolstack.detach({ domid: guest.domid, devid }, `${vbd.vdev.name} from ${guest.name}`, {
      force: options.force === true || guest.crashed, // a crashed guest cannot be asked
    });
    this.#vbds.get(guest.domid)!.delete(devid);
    this.#options.onChange();
    return device;
  }

  /** Gives the file of an attached disk another size; resolves when the guest sees it. With `dryRun` nothing changes. */
  async resize(vdev: string, { domain, ...options }: ResizeRequest): Promise<AttachedDevice> {
    const guest = this.#guest(domain, `resize ${vdev} of`);
    const vbds = this.#vbds.get(guest.domid)!;
    const host = { pool: this.#pool, blkback: this.#blkback, guest, vbds, timeoutMs: this.#options.timeoutMs };
    return this.#describeDevice(guest, await resizeVbd(host, vdev, options));
  }

  /** For tests: the thread that serves a device ends at once, as a crash would end it. */
  async crashBackend(vdev: string, domain: string): Promise<void> {
    const { guest, devid } = this.#findVbd(vdev, domain);
    await this.#pool.crash({ domid: guest.domid, devid });
  }

  async domains(): Promise<DomainInfo[]> {
    const guests = await Promise.all([...this.#guests.values()].map((guest) => this.#describeDomain(guest)));
    const dying = [...this.#dying].map(([domid, name]) => ({ domid, name, state: "dying" as const, devices: [] }));
    return [...guests, ...dying];
  }

  /** What is attached now, for the daemon's record. */
  attached(): Dom0Record["devices"] {
    return [...this.#guests.values()].flatMap((guest) =>
      [...this.#vbds.get(guest.domid)!.values()].map(({ vdev, disk, access }) => ({
        domain: guest.name,
        vdev: vdev.name,
        disk,
        access,
      })),
    );
  }

  /** Detaches everything, flushes, closes. */
  async stop(): Promise<void> {
    for (const guest of [...this.#guests.values()].reverse()) {
      if (guest.domid !== 0) await this.destroyDomain(guest.name);
      else
        for (const [devid, vbd] of this.#vbds.get(0)!)
          await this.#toolstack.detach({ domid: 0, devid }, vbd.vdev.name, { force: true });
    }
    await this.#guests.get(0)?.destroy();
    await this.#blkback.stop();
    await this.#pool.stop();
    this.#vcpu.stop();
  }

  async #boot(
    created: Pick<CreatedDomain, "pages"> & Partial<CreatedDomain>,
    name: string,
    options: DomainOptions,
  ): Promise<void> {
    const { pages, xenstorePort } = created;
    const { domid } = pages;
    const socketDir = domainSockets(this.#options.paths, name);
    this.#options.ensureDir(socketDir);
    const { memory = pages.memory.byteLength >> 20, maxmem = memory, ...identity } = options.config ?? {};
    await this.#toolstack.createDomainTree(domid, name, { ...identity, memory: memory * 1024, maxmem: maxmem * 1024 });
    const storePort = xenstorePort ?? this.#connectDom0();
    if (xenstorePort !== undefined) await this.#store.introduce(domid, XENSTORE_FRAME, xenstorePort);
    const guest = await Guest.boot({
      domid,
      name,
      pages,
      dom0: this.#hypervisor.dom0,
      storePort,
      socketDir,
      blkfront: options.blkfront ?? true,
      onCrash: () => this.#crashed(domid, socketDir),
      onError: this.#options.onError,
    });
    this.#guests.set(domid, guest);
    this.#vbds.set(domid, new Map());
  }

  #crashed(domid: number, socketDir: string): void {
    this.#options.removeDir(socketDir); // nobody answers there any more
    if (domid !== 0 && this.#hypervisor.isAlive(domid)) this.#hypervisor.shutdown(domid, SHUTDOWN.crash);
  }

  /** What VIRQ_DOM_EXC tells xenstored, and the toolstack of domains that it destroyed. */
  /** The kernel of Domain-0 is a client like any other, which nobody has to introduce; its port. */
  #connectDom0(): number {
    const { port } = createXenstorePage(this.#hypervisor.dom0);
    this.#rings.connect(this.xenstored, 0, port);
    return port;
  }

  #onDomainChange({ domid, state }: DomainChange): void {
    if (state === "shutdown") this.xenstored.domainShutdown(domid);
    else if (state === "dying") this.xenstored.domainDied(domid);
    else if (this.#dying.delete(domid)) this.#options.onChange();
  }

  #guest(which: string, verb: string): Guest {
    const guest = /^\d+$/.test(which)
      ? this.#guests.get(Number(which))
      : [...this.#guests.values()].find(({ name }) => name === which);
    if (!guest)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot ${verb} domain ${which}: there is none of that ${/^\d+$/.test(which) ? "id" : "name"}`,
      );
    return guest;
  }

  /** The disk's own lock would refuse it too; this tells which device of ours has it. */
  #refuseSharing(disk: string, access: "rw" | "ro"): void {
    for (const guest of this.#guests.values())
      for (const vbd of this.#vbds.get(guest.domid)!.values())
        if (vbd.disk === disk && (access === "rw" || vbd.access === "rw"))
          throw new DiskError(
            "DENIED",
            `Cannot attach ${disk} ${access}: it is in use as ${vbd.vdev.name} of ${guest.name} (${vbd.access}), a writer shares with nobody`,
          );
  }

  #findVbd(which: string, domain: string | undefined): { guest: Guest; devid: number; vbd: AttachedVbd } {
    const guests = domain === undefined ? [...this.#guests.values()] : [this.#guest(domain, `detach ${which} from`)];
    const name = which.replace(/^\/dev\//, "");
    const found = guests.flatMap((guest) =>
      [...this.#vbds.get(guest.domid)!]
        .filter(([devid, vbd]) => vbd.vdev.name === name || vbd.disk === which || String(devid) === which)
        .map(([devid, vbd]) => ({ guest, devid, vbd })),
    );
    // A bare device name means Domain-0's when several domains have one.
    const chosen = found.length > 1 && !which.startsWith("/") ? found.filter(({ guest }) => guest.domid === 0) : found;
    if (chosen.length === 1) return chosen[0]!;
    if (found.length > 1 && new Set(found.map(({ guest }) => guest)).size < found.length) {
      const devices = found.map(({ guest, vbd }) => `${guest.name}/${vbd.vdev.name}`).join(", ");
      throw new DiskError("DENIED", `Cannot detach ${which}: it is attached as ${devices}, name one of them`);
    }
    if (found.length === 0)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot detach ${which}: no such device is attached${domain === undefined ? "" : ` to domain ${domain}`}`,
      );
    throw new DiskError(
      "DENIED",
      `Cannot detach ${which}: it is attached to ${found.map(({ guest }) => guest.name).join(", ")}, choose with --domain`,
    );
  }

  async #describeDomain(guest: Guest): Promise<DomainInfo> {
    const devices = [...this.#vbds.get(guest.domid)!.keys()].map((devid) =>
      this.#describeDevice(guest, devid).catch(() => undefined),
    );
    return {
      domid: guest.domid,
      name: guest.name,
      state: guest.crashed ? "crashed" : (this.#hypervisor.domain(guest.domid)?.state ?? "dying"),
      devices: (await Promise.all(devices)).filter((device) => device !== undefined),
    };
  }

  async #describeDevice(guest: Guest, devid: number): Promise<AttachedDevice> {
    const id = { domid: guest.domid, devid };
    const vbd = this.#vbds.get(guest.domid)?.get(devid);
    if (!vbd) throw new DiskError("NOT_FOUND", `Cannot describe device ${devid} of ${guest.name}: it is not attached`);
    const [{ frontend, backend }, info, statistics] = await Promise.all([
      this.#toolstack.states(id),
      guest.describe(devid),
      this.#pool.statistics(id),
    ]);
    return {
      domain: guest.name,
      domid: guest.domid,
      vdev: vbd.vdev.name,
      device: `/dev/${vbd.vdev.name}`,
      number: devid,
      disk: vbd.disk,
      size: info?.size ?? this.#pool.facts(id)?.size ?? 0,
      "hidden-bytes": this.#pool.facts(id)?.hiddenBytes ?? 0,
      access: vbd.access,
      state: frontend === backend ? stateName(backend) : `${stateName(frontend)}/${stateName(backend)}`,
      "frontend-state": frontend,
      "backend-state": backend,
      partitions: info?.partitions ?? [],
      socket: info?.socket ?? null,
      connections: info?.connections ?? 0,
      "kernel-device": null,
      ring: this.#pool.rings(id),
      statistics,
      "frontend-rings": info?.rings ?? [],
    };
  }
}
