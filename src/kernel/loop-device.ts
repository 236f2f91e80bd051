/**
 * The kernel's loop device over a file, by ioctls (linux/loop.h; Linux 5.8). It is not kept open: so its cache is written
 * back and forgotten when the last user closes it, as every disk's is. Calls wait without blocking this thread, which may
 * be the one that the loop device waits for; the caller sees to it that there are few at a time (`turns.ts`).
 */
import { basename } from "node:path";
import { DiskError, fromErrno } from "../errors.js";
import { loopFiles, type SystemPartition, systemDisk } from "../os/block-nodes.js";
import { addressOf, checkIoctl, type OpenDescriptor, openDescriptor } from "../os/device-control.js";
import { errnoError } from "../os/libc.js";
import { runProgram } from "../os/programs.js";
import { ERRNO } from "./errno.js";
import { BLKPG, BLKPG_ARGUMENT, BLKPG_OP, BLKPG_PARTITION, LO_FLAGS, LOOP_CONFIG, LOOP_IOCTL } from "./loop-layout.js";

const O_RDONLY = 0;
const O_RDWR = 2;
/** A free device may be taken by somebody else before it is ours. */
const ATTEMPTS = 64;
const MAX_FILE_NAME = 63;

export interface LoopOptions {
  /** 512 or 4096. */
  readonly blockSize: number;
  readonly writable: boolean;
  /** What LOOP_GET_STATUS64 tells; cut after 63 bytes. */
  readonly fileName: string;
}

/** Bytes of the disk that a partition takes. */
export interface PartitionPlace {
  readonly number: number;
  readonly offset: number;
  readonly size: number;
}

export class LoopDevice {
  /** `loop3`, in /dev and /sys/block. */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  get path(): string {
    return `/dev/${this.name}`;
  }

  /** Puts a free loop device over `file`, which may be closed afterwards. */
  static async over(file: OpenDescriptor, options: LoopOptions): Promise<LoopDevice> {
    const control = await openDescriptor("/dev/loop-control", O_RDWR);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const number = await control.ioctl(LOOP_IOCTL.CTL_GET_FREE, 0);
        const device = new LoopDevice(`loop${checkIoctl("find a free loop device", "LOOP_CTL_GET_FREE", number)}`);
        if (await device.#configure(file, options)) return device;
      }
    } finally {
      await control.close();
    }
    throw new DiskError(
      "IO",
      `Cannot set up a loop device: each of ${ATTEMPTS} free ones was taken by somebody else first`,
    );
  }

  /** False when somebody else was faster. */
  async #configure(file: OpenDescriptor, { blockSize, writable, fileName }: LoopOptions): Promise<boolean> {
    const flags = LO_FLAGS.DIRECT_IO | LO_FLAGS.PARTSCAN | (writable ? 0 : LO_FLAGS.READ_ONLY);
    const config = LOOP_CONFIG.encode({
      ...{ fd: file.fd, blockSize, flags, fileName: fileName.slice(0, MAX_FILE_NAME) },
      ...{ device: 0n, inode: 0n, rdevice: 0n, offset: 0, sizeLimit: 0, number: 0 },
    });
    const result = await this.#with(writable ? O_RDWR : O_RDONLY, (open) => open.ioctl(LOOP_IOCTL.CONFIGURE, config));
    if (result === ERRNO.EBUSY) return false;
    checkIoctl(`set up ${this.path}`, "LOOP_CONFIGURE", result);
    return true;
  }

  /** Whether it is over the file of that name. Somebody else may have cleared it, and may use it for something else by now. */
  isOver(fileName: string): boolean {
    return loopFiles().some(({ name, file }) => name === this.name && basename(file) === fileName);
  }

  /** What the kernel has of it now. */
  facts(): { device: string; partitions: SystemPartition[] } {
    const facts = systemDisk(this.name);
    if (!facts) throw new DiskError("IO", `Cannot look at ${this.path}: it is not in /sys/block`);
    return facts;
  }

  /** Takes the file's present size. */
  async refreshSize(): Promise<void> {
    const status = new Uint8Array(LOOP_CONFIG.fields.reserved.offset - LOOP_CONFIG.fields.device.offset);
    await this.#with(O_RDONLY, async (open) => {
      // Asking for the status makes the kernel ask for the file's attributes, which older kernels do not when they set the capacity.
      checkIoctl(`look at ${this.path}`, "LOOP_GET_STATUS64", await open.ioctl(LOOP_IOCTL.GET_STATUS64, status));
      checkIoctl(`resize ${this.path}`, "LOOP_SET_CAPACITY", await open.ioctl(LOOP_IOCTL.SET_CAPACITY, 0));
    });
  }

  /**
   * What its users have written so far is in the file, and on stable storage; nothing is cached any more but what is in use.
   * Another process waits for it: a thread of ours that did could not end when this process is killed, which nobody would
   * answer any more, and so the process could not, nor the kernel learn that it should give up.
   */
  async flush(): Promise<void> {
    await runProgram("blockdev", ["--flushbufs", this.path]);
  }

  /** Makes the kernel's partitions these. Those in use stay; they are returned. */
  setPartitions(wanted: readonly PartitionPlace[]): Promise<SystemPartition[]> {
    return this.#with(O_RDONLY, async (open) => {
      const busy: SystemPartition[] = [];
      for (const found of this.facts().partitions) {
        if (wanted.some((one) => samePlace(found, one))) continue;
        const longer = wanted.find((one) => grown(found, one));
        if (longer && (await blkpg(open, BLKPG_OP.RESIZE_PARTITION, longer)) === 0) continue; // also while it is mounted
        const result = await blkpg(open, BLKPG_OP.DEL_PARTITION, { number: found.number, offset: 0, size: 0 });
        if (result === ERRNO.EBUSY) busy.push(found);
        else if (result !== ERRNO.ENXIO)
          checkIoctl(`remove partition ${found.number} of ${this.path}`, "BLKPG", result);
      }
      const present = new Set(this.facts().partitions.map(({ number }) => number));
      for (const one of wanted) {
        if (present.has(one.number)) continue;
        const result = await blkpg(open, BLKPG_OP.ADD_PARTITION, one);
        checkIoctl(`add partition ${one.number} to ${this.path}`, "BLKPG", result);
      }
      return busy;
    });
  }

  /** Lets go of the file: at once, or when its last user has closed it. Not an error when it has none. */
  async clear(): Promise<void> {
    const result = await this.#with(O_RDONLY, (open) => open.ioctl(LOOP_IOCTL.CLR_FD, 0));
    if (result < 0 && result !== ERRNO.ENXIO) throw fromErrno(`clear ${this.path}`, errnoError(result, "LOOP_CLR_FD"));
  }

  /** Whether it has no file. */
  get cleared(): boolean {
    return !loopFiles().some(({ name }) => name === this.name);
  }

  async #with<T>(flags: number, work: (open: OpenDescriptor) => Promise<T>): Promise<T> {
    const open = await openDescriptor(this.path, flags);
    try {
      return await work(open);
    } finally {
      await open.close();
    }
  }
}

function samePlace(found: SystemPartition, wanted: PartitionPlace): boolean {
  return found.number === wanted.number && found.start === wanted.offset && found.size === wanted.size;
}

function grown(found: SystemPartition, wanted: PartitionPlace): boolean {
  return found.number === wanted.number && found.start === wanted.offset && found.size < wanted.size;
}

function blkpg(open: OpenDescriptor, op: number, { number, offset, size }: PartitionPlace): Promise<number> {
  // One piece of memory: the call keeps its argument in place, and what that points at with it.
  const memory = new Uint8Array(BLKPG_ARGUMENT.size + BLKPG_PARTITION.size);
  const data = addressOf(memory) + BigInt(BLKPG_ARGUMENT.size);
  BLKPG_ARGUMENT.encode({ op, flags: 0, dataLength: BLKPG_PARTITION.size, data }, memory);
  BLKPG_PARTITION.encode(
    { start: offset, length: size, number, names: new Uint8Array(128) },
    memory,
    BLKPG_ARGUMENT.size,
  );
  return open.ioctl(BLKPG, memory);
}
