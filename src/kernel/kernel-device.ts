/**
 * A BlockDevice as a block device of this machine's kernel: the node /dev/xvdX, and /dev/xvdX1 ... for its partitions.
 *
 *   program -> page cache -> loop device (direct I/O) -> FUSE -> this process -> device
 *
 * The FUSE file system has one file, is mounted in no folder, and lives as long as the loop device has that file open. The
 * nodes have the loop device's numbers. Partitions are set by us (BLKPG): many kernels of virtual machines read no partition
 * tables, and those that do find the same. When this process dies the device answers errors; `leftovers.ts` takes it away.
 *
 * A kernel with nbd could have /dev/nbdN below the same nodes: what would change is `#setUp` and `LoopDevice`.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { anythingAt, blockNodeAt, type SystemPartition, usersOf } from "../os/block-nodes.js";
import { missingForKernelDevices } from "./available.js";
import { type DeviceNodes, existsAlready } from "./device-nodes.js";
import { FuseFile } from "./fuse-file.js";
import { servedFileName } from "./leftovers.js";
import { LoopDevice, type PartitionPlace } from "./loop-device.js";
import type { Runner } from "./session-runner.js";
import { inTurn } from "./turns.js";

export interface KernelDeviceOptions {
  readonly device: BlockDevice;
  /** `xvda`. */
  readonly name: string;
  /** Folder of the nodes; default `/dev`. */
  readonly folder?: string;
  /** Who must be gone before what it leaves behind may be cleared; letters and digits. */
  readonly owner: string;
  readonly nodes: DeviceNodes;
  /** Runs the session in this thread. */
  readonly runner: Runner;
  readonly partitions: readonly PartitionPlace[];
  /** Somebody who could write the whole disk has closed it: its partition table may be another one. */
  onWriterClosed(): void;
  /** Somebody has taken its loop device away: its nodes have been removed, there is nothing left of it. */
  onLost(): void;
  onError(message: string): void;
}

/** As many as a disk of Xen's has minor numbers for. */
const MAX_PARTITION = 15;
/** Bytes that the kernel gives an extended partition. */
const EXTENDED = 1024;

export class KernelDevice {
  readonly path: string;
  readonly #options: KernelDeviceOptions;
  #file!: FuseFile;
  #loop!: LoopDevice;
  /** Partition nodes of ours by number. */
  readonly #partitions = new Map<number, string>();
  #opened = false;
  #closed = false;

  private constructor(options: KernelDeviceOptions) {
    this.#options = options;
    this.path = `${options.folder ?? "/dev"}/${options.name}`;
  }

  /** Throws, and leaves nothing, when something is missing or a node of these names exists. The device stays the caller's. */
  static async open(options: KernelDeviceOptions): Promise<KernelDevice> {
    const made = new KernelDevice(options);
    made.#refuse();
    await made.#setUp();
    return made;
  }

  /** Tells what is missing, and what is in the way, before anything is done. */
  #refuse(): void {
    const missing = missingForKernelDevices();
    if (missing) throw new DiskError("UNSUPPORTED", `Cannot make ${this.path}: ${missing}`, { details: { missing } });
    const { blockSize } = this.#options.device;
    if (blockSize > 4096)
      throw new DiskError("UNSUPPORTED", `Cannot make ${this.path}: its blocks have ${blockSize} bytes, allowed 4096`);
    for (let number = 0; number <= MAX_PARTITION; number++) {
      const path = this.#nodePath(number);
      if (anythingAt(path)) throw existsAlready(path);
    }
  }

  async #setUp(): Promise<void> {
    const { device, runner, nodes, onError } = this.#options;
    const fileName = this.#fileName;
    const blockSize = device.blockSize > 512 ? 4096 : 512;
    this.#file = await FuseFile.serve(
      {
        ...{ device, name: fileName, runner, onError },
        onWriterClosed: () => this.#writerClosed(),
        onLost: () => void this.#lost(),
      },
      async (file) => {
        this.#loop = await LoopDevice.over(file, { blockSize, writable: device.writable, fileName });
      },
    );
    try {
      nodes.make(this.path, this.#loop.facts().device, this.#loop.path);
      for (const path of [this.path, this.#loop.path]) this.#file.watch(path);
      await inTurn(() => this.#setPartitions(this.#options.partitions));
      this.#opened = true;
    } catch (error) {
      await this.#takeDown(() => {});
      throw error;
    }
  }

  /** The path, or null while somebody has removed the node, or made it another device's. */
  get node(): string | null {
    return this.#isThere && blockNodeAt(this.path) === this.#loop.facts().device ? this.path : null;
  }

  /** Paths of the partitions' nodes, by number. */
  get partitions(): ReadonlyMap<number, string> {
    return this.#partitions;
  }

  /** Makes the kernel's partitions, and their nodes, these. Those in use stay as they are, which is told. */
  setPartitions(partitions: readonly PartitionPlace[]): Promise<void> {
    return inTurn(async () => {
      if (this.#isThere) await this.#setPartitions(partitions);
    });
  }

  /** Bytes, as far as the kernel was told. */
  get size(): number {
    return this.#file.size;
  }

  /** The device has another size now. */
  resize(size: number): Promise<void> {
    return inTurn(async () => {
      if (!this.#isThere) return;
      this.#file.size = size;
      await this.#loop.refreshSize();
    });
  }

  /** What the kernel keeps in its cache is written, and forgotten where it is not in use: the disk may have changed below. */
  flush(): Promise<void> {
    return inTurn(async () => {
      if (this.#isThere) await this.#loop.flush();
    });
  }

  /** Who uses it now, as clauses. */
  users(): string[] {
    if (!this.#isThere) return [];
    const { device, partitions } = this.#loop.facts();
    const whole = { path: this.path, device };
    return usersOf([
      whole,
      ...partitions.map((one) => ({
        path: this.#partitions.get(one.number) ?? this.#nodePath(one.number),
        device: one.device,
      })),
    ]);
  }

  /**
   * Takes everything back; what programs have written is in the device and flushed before that. Throws `DENIED` and changes nothing while it is in use, unless `force`:
   * then its users get errors from now on. Idempotent.
   */
  async close({ force = false }: { force?: boolean } = {}): Promise<void> {
    await inTurn(async () => {
      if (this.#closed) return;
      if (!force) this.#refuseUse();
      this.#closed = true;
    });
    await this.#takeDown((error) => this.#options.onError((error as Error).message));
  }

  #refuseUse(): void {
    const users = this.users();
    if (users.length > 0)
      throw new DiskError("DENIED", `Cannot detach ${this.path}: it is in use, ${users.slice(0, 4).join(", ")}`, {
        details: { users },
      });
  }

  /** `failed` is told what could not be done; the rest is done all the same. */
  async #takeDown(failed: (error: unknown) => void): Promise<void> {
    const { nodes } = this.#options;
    for (const path of [...this.#partitions.values(), this.path]) nodes.remove(path);
    this.#partitions.clear();
    await inTurn(async () => {
      if (!this.#isOurs) return;
      await this.#loop.flush().catch(failed);
      await this.#loop.setPartitions([]).catch(failed);
      await this.#loop.clear().catch(failed);
    });
    await this.#file.close();
  }

  async #lost(): Promise<void> {
    if (this.#closed || !this.#opened) return;
    this.#closed = true;
    const { onError, onLost } = this.#options;
    onError(`${this.path} has gone: its loop device ${this.#loop.path} was cleared by another program`);
    onLost();
    await this.#takeDown((error) => onError((error as Error).message));
  }

  get #fileName(): string {
    return servedFileName(this.#options.owner, this.#options.name);
  }

  /** Asked before each change: the loop device of that number may be somebody else's by now. */
  get #isOurs(): boolean {
    return !this.#file.ended && this.#loop.isOver(this.#fileName);
  }

  get #isThere(): boolean {
    return !this.#closed && this.#isOurs;
  }

  async #setPartitions(places: readonly PartitionPlace[]): Promise<void> {
    const wanted = withoutOverlap(places.filter(({ number }) => number >= 1 && number <= MAX_PARTITION));
    const busy = await this.#loop.setPartitions(wanted);
    for (const { number } of busy) this.#options.onError(`${this.#nodePath(number)} is in use and keeps its old place`);
    this.#setNodes(this.#loop.facts().partitions);
  }

  /** A node that somebody else made meanwhile stays theirs. */
  #setNodes(present: readonly SystemPartition[]): void {
    const { nodes, onError } = this.#options;
    const numbers = new Map(present.map((one) => [one.number, one.device]));
    for (const [number, path] of this.#partitions) {
      if (nodes.all.some((node) => node.path === path && node.device === numbers.get(number))) continue;
      nodes.remove(path);
      this.#partitions.delete(number);
    }
    for (const { number, device } of present) {
      if (this.#partitions.has(number)) continue;
      try {
        nodes.make(this.#nodePath(number), device, this.#loop.path);
        this.#partitions.set(number, this.#nodePath(number));
      } catch (error) {
        onError((error as Error).message);
      }
    }
  }

  #writerClosed(): void {
    if (!this.#closed) this.#options.onWriterClosed();
  }

  /** 0: the whole disk. */
  #nodePath(number: number): string {
    return number === 0 ? this.path : `${this.path}${number}`;
  }
}

/** An extended partition holds others, and the kernel's partitions may not overlap: as the kernel itself does, only its first two sectors are given. */
function withoutOverlap(places: readonly PartitionPlace[]): PartitionPlace[] {
  const holds = (outer: PartitionPlace, inner: PartitionPlace) =>
    inner !== outer && inner.offset >= outer.offset && inner.offset + inner.size <= outer.offset + outer.size;
  return places.map((place) =>
    places.some((other) => holds(place, other) && !holds(other, place))
      ? { ...place, size: Math.min(place.size, EXTENDED) }
      : place,
  );
}
