/** ISO 9660 by its primary volume descriptor (ECMA-119, 8.4). Identified only; Joliet and Rock Ridge names are not looked at. */
import type { BlockDevice } from "../block/device.js";
import { bytes, constant, magic, text, u8, u16, u32 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";
import { emptyToNull, type Filesystem, readAt } from "./filesystem.js";

/** At sector 16 of 2048 bytes. Numbers stand in both byte orders; the little-endian half is read. */
export const ISO_PRIMARY_DESCRIPTOR = layout(
  "ISO 9660 primary volume descriptor",
  { endian: "le", size: 2048, spec: "ECMA-119, 8.4" },
  {
    type: at(0, constant(u8, 1), "1 is primary"),
    standard: at(1, magic("CD001"), "identifies the descriptor"),
    version: at(6, u8, "1"),
    unused: at(7, bytes(1), "zero"),
    system: at(8, text(32), "system identifier"),
    volume: at(40, text(32), "volume identifier"),
    unused2: at(72, bytes(8), "zero"),
    blocks: at(80, u32, "blocks of the volume"),
    blocksBig: at(84, bytes(4), "the same, big-endian"),
    unused3: at(88, bytes(32), "zero"),
    sets: at(120, bytes(8), "volume set size and number"),
    blockSize: at(128, u16, "bytes"),
    blockSizeBig: at(130, bytes(2), "the same, big-endian"),
    tables: at(132, bytes(58), "path tables and root directory"),
    names: at(190, bytes(623), "volume set, publisher, preparer, application, file identifiers"),
    created: at(813, text(16), "YYYYMMDDhhmmsscc"),
    createdZone: at(829, u8, "quarters of an hour from UTC"),
    modified: at(830, text(16), "YYYYMMDDhhmmsscc"),
    modifiedZone: at(846, u8, "quarters of an hour from UTC"),
    rest: at(847, bytes(1201), "expiry, application use"),
  },
);

const DESCRIPTOR_OFFSET = 32768;

export async function identifyIso9660(device: BlockDevice): Promise<Filesystem | null> {
  const sector = await readAt(device, DESCRIPTOR_OFFSET, ISO_PRIMARY_DESCRIPTOR.size);
  if (sector?.[0] !== 1 || Buffer.from(sector.subarray(1, 6)).toString("latin1") !== "CD001") return null;
  const descriptor = ISO_PRIMARY_DESCRIPTOR.decode(sector);
  return {
    type: "iso9660",
    label: emptyToNull(descriptor.volume.trimEnd()),
    uuid: dateId(descriptor.modified) ?? dateId(descriptor.created),
    version: null,
    size: descriptor.blocks * descriptor.blockSize,
    used: descriptor.blocks * descriptor.blockSize,
    blockSize: descriptor.blockSize,
  };
}

/** `2026-07-04-12-30-00-00`; null when the date is not given (all zeros). */
function dateId(date: string): string | null {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(date);
  return parts && !/^0+$/.test(date) ? parts.slice(1).join("-") : null;
}
