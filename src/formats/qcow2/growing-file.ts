/**
 * The file under an image: it grows as clusters are allocated, and what is missing of its last cluster reads as zeros
 * (a writer may leave that out).
 *
 * The file on the host is made longer in larger steps than the image needs: each step waits for writes that are under way. Until
 * the image is closed there may be a hole behind its end.
 */
import { type BlockDevice, defineDevice } from "../../block/device.js";
import type { HostFile } from "../../block/host-file.js";
import { DiskError } from "../../errors.js";

/** The file grows by as much as it has, up to this many bytes. */
const MOST_AHEAD = 64 << 20;

export class GrowingFile {
  readonly host: HostFile;
  #size: number;
  /** The same bytes without an end: reads zeros there, grows when written. */
  readonly endless: BlockDevice;

  constructor(host: HostFile) {
    this.host = host;
    this.#size = host.size;
    this.endless = defineDevice({
      label: host.label,
      size: Number.MAX_SAFE_INTEGER,
      read: (offset, into) => this.read(offset, into),
      write: (offset, data) => this.write(offset, data),
      zero: (offset, length) => this.#inside(offset, length, (part) => host.zero(offset, part)),
      discard: (offset, length) => this.#inside(offset, length, (part) => host.discard(offset, part)),
      extents: (offset, length) => this.#extents(offset, length),
    });
  }

  get label(): string {
    return this.host.label;
  }

  /** Bytes that the image uses; what lies behind reads as zeros. */
  get size(): number {
    return this.#size;
  }

  /** The device for bytes up to `end`: the file itself, or the endless one. */
  deviceUpTo(end: number): BlockDevice {
    return end <= this.host.size ? this.host : this.endless;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#inside(offset, into.length, (part) => this.host.read(offset, into.subarray(0, part)));
    into.fill(0, Math.max(0, Math.min(into.length, this.size - offset)));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.grow(offset + data.length);
    await this.host.write(offset, data);
  }

  /** Makes the file at least `end` bytes long; what is new reads as zeros. */
  async grow(end: number): Promise<void> {
    if (end <= this.#size) return;
    if (end > this.host.size) {
      if (!this.host.resizable)
        throw new DiskError("NO_SPACE", `Cannot grow ${this.label}: it has ${this.size} bytes, the image needs ${end}`);
      await this.host.resize(end + Math.min(this.#size, MOST_AHEAD));
    }
    this.#size = Math.max(this.#size, end);
  }

  /** Takes away what the file has behind the image's end, because it grew in larger steps. */
  async trim(): Promise<void> {
    if (this.host.writable && this.host.resizable && this.host.size > this.#size) await this.host.resize(this.#size);
  }

  /** A range that reads as zeros, also where the file had something else. */
  async clear(offset: number, length: number): Promise<void> {
    await this.#inside(offset, length, (part) => this.host.zero(offset, part));
    await this.grow(offset + length);
  }

  async #inside(offset: number, length: number, work: (part: number) => Promise<void>): Promise<void> {
    const part = Math.min(length, this.size - offset);
    if (part > 0) await work(part);
  }

  async *#extents(offset: number, length: number) {
    const inside = Math.max(0, Math.min(length, this.size - offset));
    if (inside > 0) yield* this.host.extents(offset, inside);
    const [start, rest] = [offset + inside, length - inside];
    if (rest > 0)
      yield { offset: start, length: rest, data: false, zero: true, present: true, depth: 0, hostOffset: start };
  }
}
