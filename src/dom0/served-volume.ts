/**
 * A disk that a backend thread serves. When it is a volume whose group changes, it is opened anew while its users wait: the volume's
 * lock is kept, its disks are let go of for a moment and opened again.
 */
import { type ReplaceableDevice, replaceable } from "../block/replaceable.js";
import { DiskError } from "../errors.js";
import { type OpenDisk, type OpenDiskOptions, openDiskStack } from "../stack/disk.js";
import { type KeptVolume, keepVolume, volumeIds } from "../stack/lvm/open-volume.js";

/** Somebody who looks at a disk as a whole may be in the way for a moment. */
const RETRY_MS = 20;
const RETRIES = 500;

export class ServedDisk {
  readonly #options: OpenDiskOptions;
  readonly #shown: ReplaceableDevice | null;
  #opened: OpenDisk;
  #kept: KeptVolume | null = null;

  private constructor(opened: OpenDisk, options: OpenDiskOptions) {
    this.#opened = opened;
    this.#options = options;
    this.#shown = volumeIds(opened.device) ? replaceable(opened.device) : null;
  }

  static async open(target: string, options: OpenDiskOptions): Promise<ServedDisk> {
    return new ServedDisk(await openDiskStack(target, options), options);
  }

  /** As it was opened; its device is the one to be used. */
  get disk(): OpenDisk {
    return this.#shown ? { ...this.#opened, device: this.#shown.device } : this.#opened;
  }

  /** Null for what is no volume. */
  get volume(): Pick<KeptVolume, "groupId" | "volumeId"> | null {
    return this.#kept ?? volumeIds(this.#opened.device);
  }

  /** Nothing may be in flight from here until `resume` has ended. */
  async suspend(): Promise<void> {
    if (this.#opened.device.writable) await this.#opened.device.flush();
    this.#kept = keepVolume(this.#opened.device);
    await this.#opened.device.close();
  }

  async resume(): Promise<void> {
    const options = this.#kept ? { ...this.#options, keptVolume: this.#kept } : this.#options;
    for (let tries = 0; ; tries++) {
      try {
        this.#opened = await openDiskStack(this.#opened.name.text, options);
        break;
      } catch (error) {
        const busy = error instanceof DiskError && error.details.locked === true;
        if (!busy || tries >= RETRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#kept = null;
    this.#shown?.replace(this.#opened.device);
  }
}
