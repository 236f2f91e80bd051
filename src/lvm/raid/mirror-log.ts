/**
 * The log of a mirror (`_mlog`): one bit for each region, 1 while the legs are alike there. Linux drivers/md/dm-log.c. It cannot
 * say which leg is the right one: that is always the first. So a mirror that lacks a leg is not written.
 */
import type { BlockDevice } from "../../block/device.js";
import { SECTOR } from "../layout.js";
import { MIRROR_LOG_BITS, MIRROR_LOG_HEADER } from "./layout.js";
import type { RecordedState, SyncRecord } from "./record.js";
import { Regions } from "./regions.js";

const VERSION = 2;

/** Regions that may differ. A log that is blank, or of another kind, knows nothing: all of them. */
export async function readMirrorLog(log: BlockDevice, count: number): Promise<Regions> {
  const bytes = new Uint8Array(Math.min(log.size, MIRROR_LOG_BITS + Math.ceil(count / 8)));
  await log.read(0, bytes);
  const dirty = Regions.all(count);
  try {
    const header = MIRROR_LOG_HEADER.decode(bytes);
    if (header.version !== VERSION) return dirty;
    const known = header.regions < BigInt(count) ? Number(header.regions) : count;
    const clean = Regions.from(known, bytes.subarray(MIRROR_LOG_BITS));
    for (const region of clean) dirty.delete(region);
  } catch {
    // no log yet
  }
  return dirty;
}

/** Bytes of a new log. */
export function encodeMirrorLog(dirty: Regions): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((MIRROR_LOG_BITS + dirty.bits.length) / SECTOR) * SECTOR);
  MIRROR_LOG_HEADER.encode({ version: VERSION, regions: BigInt(dirty.count) }, bytes);
  for (let region = 0; region < dirty.count; region++)
    if (!dirty.has(region)) bytes[MIRROR_LOG_BITS + (region >> 3)]! |= 1 << (region & 7);
  return bytes;
}

export class MirrorLogRecord implements SyncRecord {
  readonly remembersFailures = false;
  readonly #log: BlockDevice;

  constructor(log: BlockDevice) {
    this.#log = log;
  }

  async writeState(state: RecordedState): Promise<readonly number[]> {
    await this.#log.write(0, encodeMirrorLog(state.dirty));
    await this.#log.flush();
    return [];
  }

  async writeBits(state: RecordedState, regions: readonly number[], durable: boolean): Promise<readonly number[]> {
    const bytes = encodeMirrorLog(state.dirty);
    for (const sector of new Set(regions.map((region) => Math.floor((MIRROR_LOG_BITS + (region >> 3)) / SECTOR))))
      await this.#log.write(sector * SECTOR, bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR));
    if (durable) await this.#log.flush();
    return [];
  }
}
