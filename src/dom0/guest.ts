/** One domain, seen from Dom0's main thread: its memory and its thread. */
import { Worker } from "node:worker_threads";
import { DiskError } from "../errors.js";
import { type DomainPages, peerView } from "../xen/platform/simulated/domain-pages.js";
import type { GuestDiskInfo } from "./guest-disk.js";
import type { GuestThreadData } from "./guest-thread.js";
import { RpcClient } from "./thread-rpc.js";

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
  /** Its thread ended by itself. */
  onCrash(): void;
  onError(message: string): void;
}

export class Guest {
  readonly domid: number;
  readonly name: string;
  readonly pages: Required<DomainPages>;
  readonly socketDir: string;
  readonly #worker: Worker;
  readonly #rpc: RpcClient;
  #crashed = false;

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
    this.#worker.on("message", (message: { event?: string; message?: string }) => {
      if (message.event === "log") options.onError(`${options.name}: ${message.message}`);
    });
    this.#worker.on("error", (error) => {
      this.#crashed = true;
      this.#rpc.failAll(new DiskError("IO", `Cannot reach domain ${options.name}: it crashed with ${error.message}`));
      options.onCrash();
      options.onError(`${options.name} crashed: ${error.stack ?? error.message}`);
    });
  }

  /** Boots the domain; resolves when its block driver watches for disks. */
  static async boot(options: GuestOptions): Promise<Guest> {
    const guest = new Guest(options);
    if (options.blkfront) await guest.#rpc.call("loadBlkfront");
    return guest;
  }

  /** Whether its thread ended by itself: its drivers answer nobody any more. */
  get crashed(): boolean {
    return this.#crashed;
  }

  /** Null when the guest has no such disk, or has crashed. */
  async describe(devid: number): Promise<GuestDiskInfo | null> {
    return this.#crashed ? null : this.#rpc.call("describe", { devid });
  }

  /** Ends its thread at once, as a power cut would. The hypervisor takes back what the domain held. */
  async destroy(): Promise<void> {
    this.#rpc.failAll(new DiskError("IO", `Cannot reach domain ${this.name}: it was destroyed`));
    await this.#worker.terminate();
  }
}
