/** Master boot record and extended boot record: one sector with four entries. There is no standard; this is what DOS 3.3 and all since agree on. */

import { bytes, constant, reserved, u8, u16, u32 } from "../../bytes/field-types.js";
import { at, type Decoded, type FieldType, layout } from "../../bytes/layout.js";

export const MBR_ENTRY = layout(
  "MBR entry",
  { endian: "le", size: 16, spec: "UEFI 2.10, 5.2.1" },
  {
    bootIndicator: at(0, u8, "0x80 for the active partition, else 0"),
    startChs: at(1, bytes(3), "first sector as head, sector, cylinder"),
    type: at(4, u8, "what the partition is for; 0: the entry is unused"),
    endChs: at(5, bytes(3), "last sector as head, sector, cylinder"),
    startLba: at(8, u32, "first sector; in an EBR relative to that EBR (data) or to the extended partition (link)"),
    sectors: at(12, u32, "number of sectors"),
  },
);
export type MbrEntry = Decoded<typeof MBR_ENTRY>;

function nested(): FieldType<MbrEntry> {
  return {
    kind: "entry",
    size: MBR_ENTRY.size,
    fallback: {
      bootIndicator: 0,
      startChs: new Uint8Array(3),
      type: 0,
      endChs: new Uint8Array(3),
      startLba: 0,
      sectors: 0,
    },
    decode: (view, offset) => MBR_ENTRY.decode(new Uint8Array(view.buffer, view.byteOffset + offset, MBR_ENTRY.size)),
    encode: (view, offset, value) =>
      void MBR_ENTRY.encode(value, new Uint8Array(view.buffer, view.byteOffset + offset, MBR_ENTRY.size)),
    print: (entry) => `type 0x${entry.type.toString(16)}, ${entry.sectors} sectors at ${entry.startLba}`,
  };
}

export const BOOT_SECTOR = layout(
  "MBR",
  { endian: "le", size: 512, spec: "UEFI 2.10, 5.2.1" },
  {
    bootCode: at(0, reserved(440), "run by a BIOS"),
    diskSignature: at(440, u32, "identity of the disk; unused in an EBR"),
    unknown: at(444, reserved(2), "zero, or 0x5a5a for write-protected"),
    entry1: at(446, nested(), "primary partition 1; in an EBR the logical partition"),
    entry2: at(462, nested(), "primary partition 2; in an EBR the link to the next EBR"),
    entry3: at(478, nested(), "primary partition 3"),
    entry4: at(494, nested(), "primary partition 4"),
    signature: at(510, constant(u16, 0xaa55), "bytes 55 aa"),
  },
);
export type BootSector = Decoded<typeof BOOT_SECTOR>;

export const BOOT_SECTOR_SIZE = 512;
export const ACTIVE = 0x80;
export const PROTECTIVE_TYPE = 0xee;
/** DOS, Windows (LBA) and Linux extended partitions: all three hold a chain of logical ones. */
export const EXTENDED_TYPES: readonly number[] = [0x05, 0x0f, 0x85];
export const MAX_LBA = 0xffff_ffff;

export const UNUSED_ENTRY: MbrEntry = {
  bootIndicator: 0,
  startChs: new Uint8Array(3),
  type: 0,
  endChs: new Uint8Array(3),
  startLba: 0,
  sectors: 0,
};

/** The four entries in slot order. */
export function entriesOf(sector: BootSector): readonly [MbrEntry, MbrEntry, MbrEntry, MbrEntry] {
  return [sector.entry1, sector.entry2, sector.entry3, sector.entry4];
}

export function isUsed(entry: MbrEntry): boolean {
  return entry.type !== 0 && entry.sectors !== 0;
}
