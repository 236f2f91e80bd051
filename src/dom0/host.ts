/**
 * The simulated Xen host: xenstored, the toolstack, blkback with its threads, and the domains.
 * The way of an attach: toolstack writes the vbd -> blkback offers itself -> the disk is opened in a backend thread ->
 * the guest's blkfront grants a ring -> blkback maps it -> both Connected -> the guest offers its sockets.
 * Domains live in domains.ts, their devices in devices.ts, what happens to a domain as a whole in lifecycle.ts.
 */
import { DiskError } from "../errors.js";
import { MONOTONIC_CLOCK } from "../os/clock.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { LiveChangeResult } from "../stack/lvm/live-change.js";
import { Blkback } from "../xen/blkback.js";
import { type BlockInfo, blockDevices } from "../xen/block-info.js";
import { Hypervisor } from "../xen/platform/simulated/hypervisor.js";
import { Toolstack } from "../xen/toolstack.js";
import { VbdJournal } from "../xen/vbd-journal.js";
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
  ChangeVolumesRequest,
  DeviceDetails,
  Dom0Record,
  DomainInfo,
  IoSample,
  ResizeRequest,
} from "./api-types.js";
import { Arrivals } from "./arrivals.js";
import { BackendPool } from "./backend-pool.js";
import { DomainDescriber } from "./describe.js";
import { Devices } from "./devices.js";
import { DEFAULT_MEMORY, type DomainOptions, Domains } from "./domains.js";
import { IoSampler } from "./io-sample.js";
import { Lifecycle } from "./lifecycle.js";
import { Migrations } from "./migrate.js";
import { Saves } from "./save.js";

export interface HostOptions {
  /** Where this run's sockets are, and where names of disks are looked up. */
  readonly paths: XvdPaths;
  /** Milliseconds that each step of the toolstack may take; libxl waits 10 s. */
  readonly timeoutMs?: number;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Makes a folder for its owner alone. */
  ensureDir(path: string): void;
  removeDir(path: string): void;
  /** A text that no other call has returned, on any host; needed to migrate. */
  newToken?(): string;
  onError(message: string): void;
  /** After every change, so that the next start can tell what this one held. */
  onChange(): void;
}

export class Host {
  readonly #hypervisor = new Hypervisor(DEFAULT_MEMORY);
  /** Dom0's main thread: events for the host and the store. Guests' requests without end leave the control API its turns. */
  readonly #vcpu = new VcpuLoop(this.#hypervisor.platform.vcpu, { blocking: false, spins: 0, passesPerTurn: 4 });
  readonly #rings = new XenstoreRings({ platform: this.#hypervisor.platform, loop: this.#vcpu });
  readonly xenstored: Xenstored;
  readonly lifecycle: Lifecycle;
  readonly saves: Saves;
  readonly migrations: Migrations;
  readonly arrivals: Arrivals;
  readonly #options: HostOptions;
  readonly #store: XenstoreClient;
  readonly #domains: Domains;
  readonly #devices: Devices;
  readonly #describer: DomainDescriber;
  readonly #io: IoSampler;
  readonly #pool: BackendPool;
  readonly #blkback: Blkback;

  private constructor(options: HostOptions) {
    this.#options = options;
    const { paths, timeoutMs = 10_000, clock = MONOTONIC_CLOCK, ensureDir, removeDir, onError, onChange } = options;
    const hypervisor = this.#hypervisor;
    this.xenstored = new Xenstored({
      clock,
      domainExists: (domid) => hypervisor.isAlive(domid),
      onIntroduce: (domid, _frame, port) => this.#rings.connect(this.xenstored, domid, port),
      onRelease: (domid) => this.#rings.disconnect(domid),
      onNotice: onError,
    });
    this.#store = new XenstoreClient(localTransport(this.xenstored, 0));
    const store = this.#store;
    const { dom0 } = hypervisor;
    this.#pool = new BackendPool({
      dom0,
      paths,
      now: clock.now,
      pagesOf: (domid) => hypervisor.pages(domid),
      releaseVcpu: (vcpu) => hypervisor.releaseVcpu(0, vcpu),
      onRestarted: (id) => this.#blkback.lost(id, null),
      onLost: (id, reason) => this.#blkback.lost(id, reason),
      onError,
    });
    const pool = this.#pool;
    const journal = new VbdJournal(store, clock.now);
    const toolstack = new Toolstack({ store, script: pool, timeoutMs, journal });
    this.#blkback = new Blkback({ store, domid: 0, plane: pool, onError });
    this.#domains = new Domains({
      paths,
      xenstored: this.xenstored,
      rings: this.#rings,
      store,
      toolstack,
      hypervisor,
      ensureDir,
      removeDir,
      onShutdown: (domain, reason) => void this.lifecycle.afterShutdown(domain, reason),
      onGone: onChange,
      extents: (id, offset, length) => pool.extents(id, offset, length),
      onError,
    });
    const domains = this.#domains;
    this.#describer = new DomainDescriber(toolstack, pool);
    const blkback = this.#blkback;
    this.#io = new IoSampler({ domains, toolstack, pool, now: clock.now });
    this.#devices = new Devices({
      paths,
      domains,
      toolstack,
      pool,
      blkback,
      store,
      journal,
      describer: this.#describer,
      timeoutMs,
      onChange,
    });
    const devices = this.#devices;
    this.lifecycle = new Lifecycle({ store, toolstack, pool, domains, devices, timeoutMs, onError, onChange });
    const { lifecycle } = this;
    this.saves = new Saves({ host: this, store, domains, lifecycle, onError });
    const { saves } = this;
    this.arrivals = new Arrivals({ paths, domains, saves });
    this.migrations = new Migrations({
      paths,
      pool,
      domains,
      lifecycle,
      saves,
      newToken: options.newToken ?? neverNew,
      ensureDir,
      removeDir,
      onError,
    });
  }

  get hypervisor(): Hypervisor {
    return this.#hypervisor;
  }

  static async start(options: HostOptions): Promise<Host> {
    const host = new Host(options);
    void host.#vcpu.run();
    createBootTree(host.xenstored);
    await host.#blkback.start();
    await host.#domains.bootDom0();
    host.#pool.prepare();
    return host;
  }

  async createDomain(name: string, options: DomainOptions = {}): Promise<DomainInfo> {
    const domain = await this.#domains.create(name, options);
    this.#options.onChange();
    return this.#describer.domain(domain);
  }

  async domain(which: string): Promise<DomainInfo> {
    return this.#describer.domain(this.#domains.find(which, "describe"));
  }

  /** All that can be seen of the devices of a domain (default: of all domains), or of one of them by its number. */
  async details(which?: string, devid?: number): Promise<DeviceDetails[]> {
    const domains = which === undefined ? this.#domains.all() : [this.#domains.find(which, "describe devices of")];
    const wanted = domains.flatMap((domain) => [...domain.vbds.keys()].map((number) => ({ domain, number })));
    const asked = wanted
      .filter(({ number }) => devid === undefined || number === devid)
      .map(({ domain, number }) => this.#devices.details(domain, number).catch(() => undefined)); // it has gone meanwhile
    return (await Promise.all(asked)).filter((device) => device !== undefined);
  }

  /** The counters of all devices now. */
  io(): Promise<IoSample> {
    return this.#io.sample();
  }

  /** The domain's vbds as the store has them. */
  async blockDevices(which: string): Promise<BlockInfo[]> {
    return blockDevices(this.#store, this.#domains.find(which, "list block devices of").domid);
  }

  /** Ends the domain as a power cut would, then takes its devices back. */
  destroyDomain(which: string): Promise<void> {
    return this.lifecycle.destroy(which);
  }

  attach(request: AttachRequest): Promise<AttachedDevice> {
    return this.#devices.attach(request);
  }

  /** `which` is a device name, a device number or the disk behind it. */
  detach(which: string, options: { domain?: string; force?: boolean } = {}): Promise<AttachedDevice> {
    return this.#devices.detach(which, options);
  }

  /** Gives the file of an attached disk another size; resolves when the guest sees it. With `dryRun` nothing changes. */
  resize(vdev: string, request: ResizeRequest): Promise<AttachedDevice> {
    return this.#devices.resize(vdev, request);
  }

  /** Changes a group whose volumes guests use, while they wait. Null when none of `volumes` is attached. */
  changeVolumes({ change, volumes }: ChangeVolumesRequest): Promise<LiveChangeResult | null> {
    return this.#pool.changeVolumes(change, volumes);
  }

  /** For tests: the thread that serves a device ends at once, as a crash would end it. */
  crashBackend(vdev: string, domain: string): Promise<void> {
    return this.#devices.crashBackend(vdev, domain);
  }

  async domains(): Promise<DomainInfo[]> {
    const dying = this.#domains.dying().map((domain) => ({ ...domain, state: "dying" as const, devices: [] }));
    return [...(await Promise.all(this.#domains.all().map((domain) => this.#describer.domain(domain)))), ...dying];
  }

  /** What is attached now, for the daemon's record. */
  attached(): Dom0Record["devices"] {
    return this.#devices.attached();
  }

  /** Throws `DENIED` while programs use this machine's block devices: what they have not written yet would be lost. */
  async refuseKernelUse(): Promise<void> {
    const users = await this.#domains.find("0", "stop").guest.kernelUsers();
    if (users.length === 0) return;
    const told = users.slice(0, 4).join(", ");
    throw new DiskError("DENIED", `Cannot stop Dom0: devices are in use, ${told}, allowed with --force`, {
      details: { users },
    });
  }

  /** Detaches everything, flushes, closes. */
  async stop(): Promise<void> {
    await this.lifecycle.stop();
    await this.#domains.stop();
    await this.#blkback.stop();
    await this.#pool.stop();
    this.#vcpu.stop();
  }
}

function neverNew(): never {
  throw new TypeError("a host that was not told how to make tokens cannot migrate");
}
