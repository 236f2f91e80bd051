/**
 * A copy of a disk in use, made in its backend's thread: first all that is stored, then, round by round, what changed
 * meanwhile. The copy has no name before `commit`; the disk itself is only read.
 */
import { copyDevice } from "../block/copy.js";
import type { BlockDevice } from "../block/device.js";
import { type DirtyRanges, trackDirty } from "../block/dirty.js";
import { fileDevice } from "../block/file.js";
import { createStaged, type StagedFile } from "../os/staged.js";

export interface CopyRound {
  /** Bytes that this round went over; in the first one, of which most may be holes. */
  readonly copied: number;
  /** Bytes that changed meanwhile. */
  readonly dirty: number;
}

export class DiskCopy {
  readonly #device: BlockDevice;
  readonly #staged: StagedFile;
  readonly #target: BlockDevice;
  readonly #dirty: DirtyRanges;
  readonly #controller = new AbortController();
  #isFirst = true;
  /** Of the round under way. Bytes. */
  readonly progress = { done: 0, total: 0 };

  private constructor(device: BlockDevice, staged: StagedFile) {
    this.#device = device;
    this.#staged = staged;
    this.#target = fileDevice(staged.file, { own: false });
    this.#dirty = trackDirty(device);
  }

  /** Throws `DENIED` when there is a file of that name, without `force`. */
  static async start(device: BlockDevice, path: string, force: boolean): Promise<DiskCopy> {
    return new DiskCopy(device, await createStaged(path, { force, size: device.size }));
  }

  async round(): Promise<CopyRound> {
    const { signal } = this.#controller;
    const onProgress = (done: number, total: number) => Object.assign(this.progress, { done, total });
    if (this.#isFirst) {
      this.#isFirst = false;
      await copyDevice(this.#device, this.#target, { targetIsZero: true, signal, onProgress });
      return { copied: this.#device.size, dirty: this.#dirty.dirty };
    }
    let copied = 0;
    const total = this.#dirty.dirty;
    for (const { offset, length } of this.#dirty.take()) {
      await copyDevice(this.#device, this.#target, { sourceOffset: offset, targetOffset: offset, length, signal });
      onProgress((copied += length), Math.max(total, copied));
    }
    return { copied, dirty: this.#dirty.dirty };
  }

  /** The copy is durable and has its name. */
  async commit(): Promise<void> {
    this.#dirty.stop();
    await this.#staged.commit();
  }

  /** Leaves nothing. Idempotent; a round under way ends first. */
  async abort(): Promise<void> {
    this.#controller.abort(new Error("the copy was given up"));
    this.#dirty.stop();
    await this.#staged.abort();
  }
}
