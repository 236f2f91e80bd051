/** Random work on a pool with several thins and snapshots, and the bytes that each must have, in plain buffers. */
import type { BlockDevice } from "#src/block/device.js";
import { CHUNK, openTestThin, seededNumbers, type TestPool } from "./support.js";

export class PoolModel {
  readonly random: (bound: number) => number;
  readonly contents = new Map<number, Buffer>();
  readonly #devices = new Map<number, BlockDevice>();
  #nextId = 1;
  test: TestPool;

  /** Bytes of each device. */
  readonly size: number;

  constructor(test: TestPool, seed: number, size = 24 * CHUNK) {
    this.test = test;
    this.size = size;
    this.random = seededNumbers(seed);
  }

  /** The same contents behind a pool that was opened again. */
  reopened(test: TestPool): void {
    this.test = test;
    this.#devices.clear();
  }

  async device(id: number): Promise<BlockDevice> {
    const known = this.#devices.get(id) ?? (await openTestThin(this.test.pool, id, this.size));
    this.#devices.set(id, known);
    return known;
  }

  async step(): Promise<void> {
    const { random, contents } = this;
    const ids = [...contents.keys()];
    const id = ids[random(ids.length)]!;
    const kind = random(100);
    if (ids.length === 0 || (kind < 4 && ids.length < 5)) return this.#create();
    if (kind < 10 && ids.length < 6) return this.#snapshot(id);
    if (kind < 13 && ids.length > 2) return this.#delete(id);
    if (kind < 22) return this.test.pool.flush();
    const device = await this.device(id);
    const offset = random(this.size / 512) * 512;
    const length = Math.min(this.size - offset, (1 + random(kind < 70 ? 40 : 500)) * 512);
    const bytes = contents.get(id)!;
    if (kind < 70) {
      const data = Buffer.alloc(length, 1 + random(255));
      await device.write(offset, data);
      data.copy(bytes, offset);
    } else if (kind < 85) {
      await device.zero(offset, length);
      bytes.fill(0, offset, offset + length);
    } else {
      // Whole chunks read zeros afterwards, parts of chunks stay as they are.
      await device.discard(offset, length);
      const end = offset + length;
      const last = end === this.size ? end : Math.floor(end / CHUNK) * CHUNK;
      const first = Math.ceil(offset / CHUNK) * CHUNK;
      if (first < last) bytes.fill(0, first, last);
    }
  }

  /** What each device has now, as values. */
  copy(): Map<number, Buffer> {
    return new Map([...this.contents].map(([id, bytes]) => [id, Buffer.from(bytes)]));
  }

  async #create(): Promise<void> {
    const id = this.#nextId++;
    await this.test.pool.administer((metadata) => metadata.createDevice(id));
    this.contents.set(id, Buffer.alloc(this.size));
  }

  async #snapshot(origin: number): Promise<void> {
    const id = this.#nextId++;
    await this.test.pool.administer((metadata) => metadata.createSnapshot(id, origin));
    this.contents.set(id, Buffer.from(this.contents.get(origin)!));
  }

  async #delete(id: number): Promise<void> {
    await this.test.pool.administer((metadata) => metadata.deleteDevice(id));
    this.contents.delete(id);
    this.#devices.delete(id);
  }

  /** The first device whose bytes are others. */
  async difference(): Promise<string | null> {
    for (const [id, bytes] of this.contents) {
      const into = Buffer.alloc(this.size);
      await (await this.device(id)).read(0, into);
      if (into.equals(bytes)) continue;
      return `device ${id} at byte ${into.findIndex((byte, i) => byte !== bytes[i])}`;
    }
    return null;
  }
}
