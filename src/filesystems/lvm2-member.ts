/** LVM2 physical volumes by their label: only that it is one, and its id. The volume group's metadata is not read here. LVM2 lib/format_text/layout.h. */
import type { BlockDevice } from "../block/device.js";
import { count64, magic, text, u32, u64 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";
import { type Filesystem, readAt } from "./filesystem.js";

/** In one of the first four sectors. */
export const LVM2_LABEL = layout(
  "LVM2 label",
  { endian: "le", size: 32, spec: "LVM2, lib/label/label.h" },
  {
    magic: at(0, magic("LABELONE"), "identifies the label"),
    sector: at(8, u64, "sector of this label"),
    crc: at(16, u32, "of the sector from the next field on"),
    offset: at(20, u32, "bytes from the label's begin to the header that follows"),
    type: at(24, magic("LVM2 001"), "what follows"),
  },
);
const PV_HEADER = layout(
  "LVM2 physical volume header",
  { endian: "le", size: 40, spec: "LVM2, lib/format_text/layout.h" },
  { id: at(0, text(32), "identity"), size: at(32, count64, "bytes of the device") },
);

const SECTOR = 512;

export async function identifyLvm2Member(device: BlockDevice): Promise<Filesystem | null> {
  const sectors = await readAt(device, 0, 4 * SECTOR);
  for (let sector = 0; sectors && sector < 4; sector++) {
    const bytes = sectors.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    const found =
      Buffer.from(bytes.subarray(0, 8)).toString("latin1") === "LABELONE" &&
      Buffer.from(bytes.subarray(24, 32)).toString("latin1") === "LVM2 001";
    if (!found) continue;
    const { offset } = LVM2_LABEL.decode(bytes);
    if (offset < LVM2_LABEL.size || offset > SECTOR - PV_HEADER.size) return null;
    const id = PV_HEADER.fields.id.type.decode(new DataView(bytes.buffer, bytes.byteOffset + offset), 0, true);
    const size = new DataView(bytes.buffer, bytes.byteOffset + offset).getBigUint64(32, true);
    const uuid = /^[\w!#]{32}$/.test(id)
      ? id.replace(/^(.{6})(.{4})(.{4})(.{4})(.{4})(.{4})(.{6})$/, "$1-$2-$3-$4-$5-$6-$7")
      : null;
    return {
      type: "LVM2_member",
      label: null,
      uuid,
      version: "LVM2 001",
      size: size <= BigInt(Number.MAX_SAFE_INTEGER) && size > 0n ? Number(size) : null,
      used: null,
      blockSize: null,
    };
  }
  return null;
}
