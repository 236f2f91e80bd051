/** LUKS versions 1 and 2 by their header. LUKS1 On-Disk Format 1.2.3; LUKS2 On-Disk Format 1.1.1. Identified only: what is inside is encrypted. */
import type { BlockDevice } from "../block/device.js";
import { bytes, count64, magic, text, u16 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";
import { utf8 } from "./field-types.js";
import { emptyToNull, type Filesystem, readAt } from "./filesystem.js";

const MAGIC = "LUKS\xba\xbe";

export const LUKS1_HEADER = layout(
  "LUKS1 header",
  { endian: "be", size: 208, spec: "LUKS1 On-Disk Format 1.2.3, 2" },
  {
    magic: at(0, magic(MAGIC), "identifies the header"),
    version: at(6, u16, "1"),
    cipher: at(8, text(32), "cipher"),
    mode: at(40, text(32), "cipher mode"),
    hash: at(72, text(32), "hash"),
    key: at(104, bytes(64), "where the data begins, the master key's digest and its salt"),
    uuid: at(168, text(40), "identity"),
  },
);

export const LUKS2_HEADER = layout(
  "LUKS2 header",
  { endian: "be", size: 512, spec: "LUKS2 On-Disk Format 1.1.1, 2.1" },
  {
    magic: at(0, magic(MAGIC), "identifies the header"),
    version: at(6, u16, "2"),
    headerSize: at(8, count64, "bytes of the header with its JSON area"),
    sequence: at(16, bytes(8), "of updates"),
    label: at(24, utf8(48), "label"),
    checksumName: at(72, text(32), "hash of the header"),
    salt: at(104, bytes(64), "of the header"),
    uuid: at(168, text(40), "identity"),
    subsystem: at(208, text(48), "second label"),
    offset: at(256, count64, "bytes from the device's begin to this header"),
    padding: at(264, bytes(184), "zero"),
    checksum: at(448, bytes(64), "of the header"),
  },
);

export async function identifyLuks(device: BlockDevice): Promise<Filesystem | null> {
  const bytes = await readAt(device, 0, 512);
  if (!bytes || Buffer.from(bytes.subarray(0, 6)).toString("latin1") !== MAGIC) return null;
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint16(LUKS1_HEADER.fields.version.offset);
  if (version !== 1 && version !== 2) return null;
  const plain = LUKS1_HEADER.decode(bytes);
  const label =
    version === 2 ? LUKS2_HEADER.fields.label.type.decode(new DataView(bytes.buffer, bytes.byteOffset), 24, false) : "";
  return {
    type: "crypto_LUKS",
    label: emptyToNull(label),
    uuid: emptyToNull(plain.uuid),
    version: String(version),
    size: null,
    used: null,
    blockSize: null,
  };
}
