/** A guest's disk as its users have it: calls become requests of blkif, its map is what the platform tells. */
import { type BlockDevice, defineDevice } from "../block/device.js";
import { withLentReads } from "../block/lent-read.js";
import { frontendExtents, type StoredRuns } from "./blkfront-extents.js";
import type { DiskCalls } from "./blkfront-io.js";
import { VDISK } from "./blkif/layout.js";
import { vdevFromNumber } from "./blkif/vdev.js";

export interface FrontendFacts {
  /** Of 512 bytes; may change. */
  sectors: number;
  readonly sectorSize: number;
  readonly info: number;
  readonly canDiscard: boolean;
}

/** Without `stored` its map is all data: the protocol cannot ask what is stored. */
export function frontendDevice(devid: number, io: DiskCalls, facts: FrontendFacts, stored?: StoredRuns): BlockDevice {
  let changes = 0;
  const count = () => {
    changes++;
  };
  /** Counted before the caller hears of it. */
  const counted = (writing: Promise<void>) => {
    if (stored) writing.then(count, count);
    return writing;
  };
  const inside = (offset: number, length: number) =>
    offset + length <= facts.sectors * 512 && offset % facts.sectorSize === 0 && length % facts.sectorSize === 0;
  const device = defineDevice({
    label: `/dev/${vdevFromNumber(devid).name}`,
    get size() {
      return facts.sectors * 512;
    },
    blockSize: facts.sectorSize,
    writable: (facts.info & VDISK.READONLY) === 0,
    read: (offset, into) => io.read(offset, into),
    write: (offset, data) => counted(io.write(offset, data)),
    flush: () => io.flush(),
    ...(facts.canDiscard ? { discard: (offset: number, length: number) => io.discard(offset, length) } : {}),
    ...(stored && {
      extents: (offset: number, length: number) =>
        frontendExtents(stored, () => changes, facts.sectorSize, { offset, length }),
    }),
  });
  // What may not be read is not lent either: reading it tells why.
  return withLentReads(device, (offset, length, use) =>
    inside(offset, length) ? (io.lend?.(offset, length, use) ?? null) : null,
  );
}
