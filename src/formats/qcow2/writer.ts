/**
 * An image written in one pass, compressed. Clusters are packed one behind the other, across cluster boundaries, as qemu-img does;
 * those that packing does not make smaller are stored as they are. The file has no name before `finish`: the order of writes is free.
 */
import type { ImageWriter } from "../extensions.js";
import { PACKING } from "./compressed.js";
import type { OpenedImage } from "./open.js";

/** Packed clusters are gathered and written together, up to this many bytes. */
const BUFFER = 1 << 20;

export class Qcow2Writer implements ImageWriter {
  readonly unit: number;
  readonly packing;
  readonly #opened: OpenedImage;
  /** Where the next packed cluster goes. */
  #at = 0;
  /** End of the cluster that was taken last for packed ones. */
  #end = 0;
  /** Packed clusters that are not written yet; the last one ends at `#at`. */
  #gathered: Uint8Array[] = [];
  #gatheredSize = 0;

  constructor(opened: OpenedImage) {
    this.#opened = opened;
    this.unit = opened.image.geometry.clusterSize;
    this.packing = PACKING[opened.image.header.compressionType];
  }

  async write(offset: number, data: Uint8Array, packed: Uint8Array): Promise<void> {
    if (packed.length >= this.unit) return this.#opened.device.write(offset, data);
    const place = await this.#opened.image.metadata.run(() => this.#place(packed.length));
    this.#gathered.push(packed.slice());
    this.#gatheredSize += packed.length;
    if (this.#gatheredSize >= BUFFER) await this.#writeGathered();
    await this.#opened.placer.linkCompressed(offset, { offset: place, length: packed.length });
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#opened.device.zero(offset, length);
  }

  async finish(): Promise<void> {
    await this.#writeGathered();
    await this.#opened.image.flush();
    await this.#opened.image.file.trim();
  }

  /** Less than a cluster, behind what was placed last; counted in the one or two clusters that it touches. */
  async #place(length: number): Promise<number> {
    const { image } = this.#opened;
    await image.makeRoom();
    const begun = this.#at < this.#end ? this.#end / this.unit - 1 : null;
    const shares = begun !== null && (await image.refcounts.get(begun)) < image.refcounts.width.most;
    if (!shares || this.#at + length > this.#end) {
      const { first } = await image.allocator.take(1);
      const follows = first * this.unit === this.#end;
      if (follows && shares) await image.refcounts.add(begun, 1, 1);
      else await this.#startAt(first * this.unit);
      this.#end = (first + 1) * this.unit;
    } else {
      await image.refcounts.add(begun, 1, 1);
    }
    const place = this.#at;
    this.#at += length;
    return place;
  }

  async #startAt(offset: number): Promise<void> {
    await this.#writeGathered();
    this.#at = offset;
  }

  async #writeGathered(): Promise<void> {
    const bytes = Buffer.concat(this.#gathered);
    this.#gathered = [];
    this.#gatheredSize = 0;
    if (bytes.length > 0) await this.#opened.image.file.write(this.#at - bytes.length, bytes);
  }
}
