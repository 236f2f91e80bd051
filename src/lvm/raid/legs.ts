/** The legs of a set with their states. A leg that cannot read is passed over; one that cannot write fails for good. */
import type { BlockDevice } from "../../block/device.js";
import { DiskError } from "../../errors.js";
import type { LegIo } from "./leg-io.js";
import type { LegState } from "./record.js";

export interface Leg {
  /** Null: it is missing. */
  readonly image: BlockDevice | null;
  /** Read only when there is no other. */
  readonly slow: boolean;
}

export interface LegsOptions {
  readonly legs: readonly Leg[];
  /** Changed in place by whoever decides. */
  readonly states: readonly LegState[];
  readonly writable: boolean;
  isStale(offset: number, length: number): boolean;
  /** Resolves when the volume goes on without the leg, which is then recorded; throws when it cannot. */
  failed(leg: number, error: DiskError): Promise<void>;
}

export class Legs implements LegIo {
  readonly #options: LegsOptions;

  constructor(options: LegsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#options.legs.length;
  }

  isCurrent(leg: number): boolean {
    return this.#options.states[leg] === "in sync";
  }

  takesWrites(leg: number): boolean {
    return this.#options.states[leg] !== "failed";
  }

  isSlow(leg: number): boolean {
    return this.#options.legs[leg]!.slow;
  }

  isStale(offset: number, length: number): boolean {
    return this.#options.isStale(offset, length);
  }

  async read(leg: number, offset: number, into: Uint8Array): Promise<boolean> {
    try {
      await this.#image(leg).read(offset, into);
      return true;
    } catch (error) {
      if (isFailure(error)) return false;
      throw error;
    }
  }

  write(leg: number, offset: number, data: Uint8Array): Promise<void> {
    return this.#change(leg, (image) => image.write(offset, data));
  }

  zero(leg: number, offset: number, length: number): Promise<void> {
    return this.#change(leg, (image) => image.zero(offset, length));
  }

  async heal(leg: number, offset: number, data: Uint8Array): Promise<void> {
    if (this.#options.writable) await this.write(leg, offset, data);
  }

  async zeroRun(leg: number, offset: number, length: number): Promise<{ zero: boolean; length: number }> {
    let zeros = 0;
    try {
      for await (const extent of this.#image(leg).extents(offset, length)) {
        if (!extent.zero) return zeros > 0 ? { zero: true, length: zeros } : { zero: false, length: extent.length };
        zeros += extent.length;
      }
      return { zero: true, length: zeros };
    } catch (error) {
      if (isFailure(error)) return { zero: false, length };
      throw error;
    }
  }

  /** All bytes that legs have taken are on stable storage. */
  async flush(): Promise<void> {
    await Promise.all(
      this.#options.legs.map((_, leg) => (this.takesWrites(leg) ? this.#change(leg, (image) => image.flush()) : null)),
    );
  }

  async #change(leg: number, work: (image: BlockDevice) => Promise<void>): Promise<void> {
    try {
      await work(this.#image(leg));
    } catch (error) {
      if (!isFailure(error)) throw error;
      await this.#options.failed(leg, error);
    }
  }

  #image(leg: number): BlockDevice {
    const { image } = this.#options.legs[leg]!;
    if (!image) throw new DiskError("IO", `Cannot use leg ${leg}: its physical volume is missing`);
    return image;
  }
}

/** What a device says of itself, not what was done wrong with it. */
function isFailure(error: unknown): error is DiskError {
  return error instanceof DiskError && (error.code === "IO" || error.code === "NO_SPACE");
}
