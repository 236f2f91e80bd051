/** One domain, seen from Dom0's main thread: its memory and its thread. */
import { Worker } from "node:worker_threads";
import { DiskError } from "../errors.js";
import type { StoredRun } from "../xen/blkfront-extents.js";
import { type DomainPages, peerView } from "../xen/platform/simulated/domain-pages.js";
import type { GuestDiskInfo } from "./guest-disk.js";
import type {
  ExtentsRequest,
  GuestEvent,
  GuestThreadData,
  KernelRequest,
  MovedDisk,
  OutstandingCalls,
} from "./guest-thread.js";
import { RpcClient, RpcServer } from "./thread-rpc.js";
import { within } from "./within.js";

export interface GuestOptions {
  readonly domid: number;
  readonly name: string;
  readonly pages: Required<DomainPages>;
  readonly dom0: Required<DomainPages>;
  /** Its port to xenstored. */
  readonly storePort: number;
  /** Folder for the sockets of its disks. */
  readonly socketDir: string;
  /** False: a guest without a block driver, whose disks never connect. */
  readonly blkfront: boolean;
  /** What its disks have to do before they are used: it was suspended elsewhere. */
  readonly restored?: readonly OutstandingCalls[];
  /** What of a range of one of its disks is stored: it may ask, and rejections are answered. */
  extents(devid: number, offset: number, length: number): Promise<readonly StoredRun[]>;
  /** Its thread ended by itself. */
  onCrash(): void;
  onError(message: string): void;
}

/** How long a guest may take to tell of its disks before what it said last is told instead. */
const ANSWER_MS = 1000;

export class Guest {
  readonly domid: number;
  readonly name: string;
  readonly pages: Required<DomainPages>;
  readonly socketDir: string;
  readonly #worker: Worker;
  readonly #rpc: RpcClient;
  readonly #known = new Map<number, GuestDiskInfo | null>();
  #crashed = false;
  /** Its vcpu stands still, or is going to. */
  #paused = false;
  /** It stands still. */
  #stopped = false;
  /** After a move: no client is connected any more. */
  #unused = false;
  /** Its number may be another domain's. */
  #moved = false;
  /** Something changed that somebody may wait for. */
  #changed: () => void = () => {};

  private constructor(options: GuestOptions) {
    this.domid = options.domid;
    this.name = options.name;
    this.pages = options.pages;
    this.socketDir = options.socketDir;
    const workerData: GuestThreadData = {
      own: options.pages,
      dom0: options.domid === 0 ? options.dom0 : peerView(options.dom0),
      vcpu: 0,
      storePort: options.storePort,
      socketDir: options.socketDir,
    };
    this.#worker = new Worker(new URL("./guest-thread.js", import.meta.url), {
      workerData,
      name: options.name,
    });
    this.#rpc = new RpcClient(this.#worker);
    new RpcServer(this.#worker, {
      extents: ({ devid, offset, length }: ExtentsRequest) =>
        this.#moved ? [] : options.extents(devid, offset, length),
    });
    this.#listen(options);
  }

  #listen(options: GuestOptions): void {
    this.#worker.on("message", (message: GuestEvent) => {
      if (message.event === "log") options.onError(`${options.name}: ${message.message}`);
      else if (message.event === "paused") this.#stopped = true;
      else if (message.event === "unused") this.#unused = true;
      this.#changed();
    });
    this.#worker.on("error", (error) => {
      this.#crashed = true;
      this.#rpc.failAll(new DiskError("IO", `Cannot reach domain ${options.name}: it crashed with ${error.message}`));
      options.onCrash();
      options.onError(`${options.name} crashed: ${error.stack ?? error.message}`);
      this.#changed();
    });
  }

  /** Boots the domain; resolves when its block driver watches for disks. */
  static async boot(options: GuestOptions): Promise<Guest> {
    const guest = new Guest(options);
    if (options.blkfront) await guest.#rpc.call("loadDrivers", { restored: options.restored ?? [] });
    return guest;
  }

  /** Whether its thread ended by itself: its drivers answer nobody any more. */
  get crashed(): boolean {
    return this.#crashed;
  }

  /** Null when the guest has no such disk, or has crashed. Of a guest that does not answer: what it told last. */
  async describe(devid: number): Promise<GuestDiskInfo | null> {
    if (this.#crashed) return null;
    const known = this.#known.get(devid) ?? null;
    if (this.#paused) return known;
    const info = await within(ANSWER_MS, this.#rpc.call<GuestDiskInfo | null>("describe", { devid }), known);
    this.#known.set(devid, info);
    return info;
  }

  /** Of Domain-0: the disk becomes a block device of this machine's kernel, too. */
  async openKernel(request: KernelRequest): Promise<void> {
    await this.#rpc.call("openKernel", request);
  }

  /** Throws `DENIED` while programs use it, unless `force`. Not an error when there is none. */
  async closeKernel(devid: number, force: boolean): Promise<void> {
    if (!this.#crashed) await this.#rpc.call("closeKernel", { devid, force });
  }

  /** Who uses kernel devices of its disks now, as clauses. */
  async kernelUsers(): Promise<string[]> {
    return this.#crashed ? [] : this.#rpc.call<string[]>("kernelUsers", {});
  }

  /** After the hypervisor paused the domain: resolves when its thread stands still; false when it does not in time. */
  async stopped(timeoutMs: number): Promise<boolean> {
    this.#paused = true;
    this.#stopped = false;
    this.#rpc.call("pause").catch(() => {}); // it answers when it goes on
    return this.waitFor(() => this.#stopped || this.#crashed, timeoutMs);
  }

  /** After the hypervisor has let it run again. */
  goesOn(): void {
    this.#paused = false;
  }

  /** Something was noted elsewhere that `waitFor` looks at. */
  look(): void {
    this.#changed();
  }

  /** Whether it came to that within `timeoutMs`. One waits at a time. */
  async waitFor(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    if (condition()) return true;
    const changed = new Promise<boolean>((resolve) => {
      this.#changed = () => {
        if (condition()) resolve(true);
      };
    });
    return within(timeoutMs, changed, false);
  }

  /** Of a suspended guest: it goes on with new rings; resolves when every disk is connected again, or has failed. */
  async resume(): Promise<void> {
    await this.#rpc.call("resume");
  }

  /** Of a suspended guest. */
  outstanding(): Promise<OutstandingCalls[]> {
    return this.#rpc.call("outstanding");
  }

  /** How the restored calls of a connected disk ended. */
  restoredStatuses(devid: number): Promise<(string | null)[]> {
    return this.#rpc.call("restoredStatuses", { devid });
  }

  /** Of a suspended guest that runs elsewhere now: its clients are served from there. `onUnused`: the last one has left. */
  async moveTo(moved: readonly MovedDisk[], onUnused: () => void): Promise<void> {
    this.#moved = true;
    this.#changed = () => {
      if (this.#unused || this.#crashed) onUnused();
    };
    await this.#rpc.call("moveTo", { moved });
  }

  /** Ends its thread at once, as a power cut would. The hypervisor takes back what the domain held. */
  async destroy(): Promise<void> {
    this.#rpc.failAll(new DiskError("IO", `Cannot reach domain ${this.name}: it was destroyed`));
    await this.#worker.terminate();
  }
}
