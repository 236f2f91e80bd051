/**
 * What lies at the begin of a physical volume: a label in one of the first four sectors, and up to two metadata areas that it
 * points to. LVM2 lib/label/label.h and lib/format_text/layout.h. Everything is little-endian, offsets are bytes.
 *
 *   sector 1   label header (32) | PV header (40) | data areas {..}{0,0} | metadata areas {..}{0,0} | extension (8) | boot areas {..}{0,0}
 *   at 4096    metadata area: header (one sector) | ring of texts
 */
import { bytes, constant, count64, magic, reserved, text, u32, u64 } from "../bytes/field-types.js";
import { at, type Decoded, layout } from "../bytes/layout.js";

export const SECTOR = 512;
/** A label lies in one of this many first sectors. */
export const LABEL_SECTORS = 4;

export const LABEL_HEADER = layout(
  "LVM2 label header",
  { endian: "le", size: 32, spec: "LVM2, lib/label/label.h" },
  {
    id: at(0, magic("LABELONE"), "identifies the label"),
    sector: at(8, count64, "sector in which this label lies"),
    crc: at(16, u32, "of the sector from the next field to its end"),
    offset: at(20, u32, "bytes from the label's begin to the PV header"),
    type: at(24, magic("LVM2 001"), "what follows"),
  },
);

export const PV_HEADER = layout(
  "LVM2 PV header",
  { endian: "le", size: 40, spec: "LVM2, lib/format_text/layout.h" },
  {
    id: at(0, text(32), "identity of the physical volume"),
    deviceSize: at(32, count64, "bytes of the device; the group's metadata overrides it"),
  },
);

export const DISK_LOCATION = layout(
  "LVM2 disk location",
  { endian: "le", size: 16, spec: "LVM2, lib/format_text/layout.h" },
  {
    offset: at(0, count64, "bytes from the begin of the device; both zero end a list"),
    size: at(8, count64, "bytes; 0: to the end of the device"),
  },
);

export const PV_EXTENSION = layout(
  "LVM2 PV header extension",
  { endian: "le", size: 8, spec: "LVM2, lib/format_text/layout.h" },
  {
    version: at(0, u32, "2; 0: there is no extension"),
    flags: at(4, u32, "bit 0: in use by a volume group"),
  },
);

export const METADATA_AREA_HEADER = layout(
  "LVM2 metadata area header",
  { endian: "le", size: 512, spec: "LVM2, lib/format_text/layout.h" },
  {
    crc: at(0, u32, "of the sector from the next field to its end"),
    magic: at(4, magic(" LVM2 x[5A%r0N*>"), "identifies the header"),
    version: at(20, constant(u32, 1), "1"),
    start: at(24, count64, "bytes from the begin of the device to this header"),
    size: at(32, count64, "bytes of the area, this sector included"),
    committed: at(40, bytes(24), "where the text in force lies"),
    precommitted: at(64, bytes(24), "the text of a change that is under way; zero otherwise"),
    rest: at(88, reserved(424), "zero"),
  },
);
export type MetadataAreaHeader = Decoded<typeof METADATA_AREA_HEADER>;

export const TEXT_LOCATION = layout(
  "LVM2 text location",
  { endian: "le", size: 24, spec: "LVM2, lib/format_text/layout.h" },
  {
    offset: at(0, u64, "bytes from the begin of the area; the text goes on at byte 512 where the area ends"),
    size: at(8, u64, "bytes of the text and the zero byte behind it"),
    crc: at(16, u32, "of these bytes"),
    flags: at(20, u32, "bit 0: the area is not used for metadata"),
  },
);
