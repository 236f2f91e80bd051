/**
 * A guest's disk as its users see it: sockets `xvda`, `xvda1` ... in the domain's folder, as /dev has nodes.
 * The partition table is read again when a connection that wrote has ended, as udev does when a writer closes a disk,
 * and when the disk has another size.
 */
import type { BlockDevice } from "../block/device.js";
import type { KernelDevice, KernelDeviceOptions } from "../kernel/kernel-device.js";
import { type NbdServer, serveNbd } from "../nbd/server.js";
import { openPartition, type Partition, readPartitionTable } from "../partitions/table.js";
import type { FrontRingState } from "../xen/blkfront-state.js";
import { partitionNumbers, vdevFromNumber } from "../xen/blkif/vdev.js";
import type { VcpuLoop, VcpuWork } from "../xen/vcpu-loop.js";

export interface GuestDiskInfo {
  readonly vdev: string;
  /** Bytes. */
  readonly size: number;
  readonly socket: string;
  readonly partitions: readonly GuestPartition[];
  /** Clients that are connected now, over all sockets of the disk. */
  readonly connections: number;
  /** Each of them. */
  readonly clients: readonly GuestClient[];
  /** The node of the kernel's device. */
  readonly kernelDevice: string | null;
  /** Of its driver. */
  readonly rings: readonly FrontRingState[];
}

/** A client of a disk or of one of its partitions; its process is null where the system cannot tell. */
export interface GuestClient {
  readonly device: string;
  readonly pid: number | null;
  readonly command: string | null;
}

export interface GuestPartition {
  readonly device: string;
  readonly number: number;
  readonly start: number; // bytes
  readonly size: number; // bytes
  readonly type: string;
  readonly name: string;
  readonly socket: string;
}

interface OpenNode {
  readonly partition: Partition;
  readonly server: NbdServer;
}

export interface GuestDiskOptions {
  readonly devid: number;
  readonly device: BlockDevice;
  /** Folder of the sockets. */
  readonly dir: string;
  readonly rings: () => FrontRingState[];
  readonly log: (message: string) => void;
  /** The thread's, which looks at the clients of the disk while it is busy. */
  readonly loop: Pick<VcpuLoop, "add" | "remove">;
}

export class GuestDisk {
  readonly #loop: GuestDiskOptions["loop"];
  readonly #clients: VcpuWork = {
    take: () => this.#takeRequests(),
    publish: () => {},
    inFlight: 0,
    finalCheck: () => false, // a thread that sleeps hears of them by its event loop
  };
  readonly #name: string;
  readonly #number: number;
  readonly #maxPartitions: number;
  readonly #device: BlockDevice;
  readonly #dir: string;
  readonly #rings: () => FrontRingState[];
  readonly #log: (message: string) => void;
  #whole: NbdServer | undefined;
  #nodes = new Map<number, OpenNode>();
  #rescan: Promise<void> = Promise.resolve();
  #closed = false;
  #kernel: KernelDevice | undefined;
  /** Told after each connection's end. */
  onConnectionClosed: () => void = () => {};

  constructor({ devid, device, dir, rings, log, loop }: GuestDiskOptions) {
    const vdev = vdevFromNumber(devid);
    this.#name = vdev.name;
    this.#number = vdev.partition;
    this.#maxPartitions = partitionNumbers(vdev);
    this.#device = device;
    this.#dir = dir;
    this.#rings = rings;
    this.#log = log;
    this.#loop = loop;
  }

  async open(): Promise<void> {
    this.#whole = await this.#serve(this.#name, this.#device);
    this.#loop.add(this.#clients);
    await this.#scan();
  }

  #takeRequests(): number {
    let count = this.#whole?.takeRequests() ?? 0;
    for (const { server } of this.#nodes.values()) count += server.takeRequests();
    return count;
  }

  /** Makes it a block device of this machine's kernel as well, with the same partitions. */
  async openKernel(options: Pick<KernelDeviceOptions, "owner" | "nodes" | "runner">): Promise<void> {
    const { KernelDevice } = await import("../kernel/kernel-device.js");
    await this.#rescan;
    this.#kernel = await KernelDevice.open({
      ...options,
      device: this.#device,
      name: this.#name,
      partitions: this.#places(),
      onWriterClosed: () => void this.rescan(),
      onLost: () => {
        this.#kernel = undefined;
      },
      onError: this.#log,
    });
  }

  /** Who uses its kernel device now, as clauses. */
  kernelUsers(): string[] {
    return this.#kernel?.users() ?? [];
  }

  /** Throws `DENIED` while programs use it, unless `force`. */
  async closeKernel(force: boolean): Promise<void> {
    await this.#kernel?.close({ force });
    this.#kernel = undefined;
  }

  /** The partition table is read again. Resolves when the sockets are those of its partitions. */
  rescan(): Promise<void> {
    this.#rescan = this.#rescan
      .then(() => this.#scan())
      .catch((error: Error) => this.#log(`${this.#name}: ${error.message}`));
    return this.#rescan;
  }

  describe(): GuestDiskInfo {
    const nodes = [...this.#nodes.values()];
    const clients = [
      ...clientsOf(this.#name, this.#whole),
      ...nodes.flatMap(({ partition, server }) => clientsOf(`${this.#name}${partition.number}`, server)),
    ];
    return {
      vdev: this.#name,
      size: this.#device.size,
      socket: `${this.#dir}/${this.#name}`,
      partitions: nodes.map(({ partition }) => this.#describePartition(partition)),
      connections: clients.length,
      clients,
      kernelDevice: this.#kernel?.node ?? null,
      rings: this.#rings(),
    };
  }

  /** Takes no new clients and removes the sockets; those that are connected stay. */
  async stopAccepting(): Promise<void> {
    this.#closed = true;
    await this.#rescan;
    for (const node of this.#nodes.values()) node.server.stopAccepting();
    this.#whole?.stopAccepting();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#rescan;
    await this.closeKernel(true);
    this.#loop.remove(this.#clients);
    for (const node of this.#nodes.values()) await node.server.close();
    await this.#whole?.close();
  }

  /** A vbd that is itself a partition (xvda1) holds no table. */
  async #scan(): Promise<void> {
    if (this.#number !== 0 || this.#closed) return;
    const table = await readPartitionTable(this.#device).catch((error: Error) => {
      this.#log(`${this.#name}: ${error.message}`);
      return null;
    });
    const found = new Map(
      (table?.partitions ?? [])
        .filter(({ number }) => number <= this.#maxPartitions)
        .map((partition) => [partition.number, partition]),
    );
    for (const [number, node] of this.#nodes) {
      if (samePlace(found.get(number), node.partition)) continue;
      this.#nodes.delete(number);
      await node.server.close();
    }
    for (const [number, partition] of found) {
      if (this.#nodes.has(number)) continue;
      const server = await this.#serve(`${this.#name}${number}`, openPartition(this.#device, table!, number));
      this.#nodes.set(number, { partition, server });
    }
    this.#nodes = new Map([...this.#nodes].sort(([a], [b]) => a - b));
    await this.#followWithKernel();
  }

  async #followWithKernel(): Promise<void> {
    if (!this.#kernel) return;
    if (this.#kernel.size !== this.#device.size) await this.#kernel.resize(this.#device.size);
    await this.#kernel.setPartitions(this.#places());
  }

  #places() {
    return [...this.#nodes.values()].map(({ partition: { number, offset, size } }) => ({ number, offset, size }));
  }

  #serve(name: string, device: BlockDevice): Promise<NbdServer> {
    return serveNbd({
      path: `${this.#dir}/${name}`,
      exports: new Map([["", { device, slowMap: true }]]),
      onConnectionClosed: ({ wrote }) => {
        if (wrote) void this.#written();
        this.onConnectionClosed();
      },
    });
  }

  /** A client has written: what the kernel keeps of the disk may be old. */
  async #written(): Promise<void> {
    await this.#kernel?.flush().catch((error: Error) => this.#log(`${this.#name}: ${error.message}`));
    await this.rescan();
  }

  #describePartition(partition: Partition): GuestPartition {
    const name = `${this.#name}${partition.number}`;
    return {
      device: `/dev/${name}`,
      number: partition.number,
      start: partition.offset,
      size: partition.size,
      type: partition.type,
      name: partition.name,
      socket: `${this.#dir}/${name}`,
    };
  }
}

function clientsOf(name: string, server: NbdServer | undefined): GuestClient[] {
  return (server?.clients() ?? []).map((peer) => ({
    device: `/dev/${name}`,
    pid: peer?.pid ?? null,
    command: peer?.command ?? null,
  }));
}

function samePlace(a: Partition | undefined, b: Partition): boolean {
  return a !== undefined && a.offset === b.offset && a.size === b.size;
}
