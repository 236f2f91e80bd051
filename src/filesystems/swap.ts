/** Linux swap areas, version 1. Linux include/linux/swap.h (union swap_header); util-linux lib/swapheader.h. Not: version 0, hibernation images. */
import type { BlockDevice } from "../block/device.js";
import { bytes, reserved, u32 } from "../bytes/field-types.js";
import { randomUuid } from "../bytes/guid.js";
import { at, layout } from "../bytes/layout.js";
import { DiskError } from "../errors.js";
import { patchFields, utf8, uuid } from "./field-types.js";
import { emptyToNull, type Filesystem, type NewId, type Random, readAt } from "./filesystem.js";

const HEADER = {
  boot: at(0, reserved(1024), "kept for boot loaders"),
  version: at(1024, u32, "1"),
  lastPage: at(1028, u32, "number of the last page"),
  badPages: at(1032, u32, "entries of the bad page list"),
  uuid: at(1036, uuid, "identity of the area"),
  label: at(1052, utf8(16), "label"),
  padding: at(1068, bytes(468), "zero"),
};
/** The area's first page: this header, the bad page list, and in the page's last ten bytes SWAPSPACE2. The maker's byte order. */
export const SWAP_HEADER = layout(
  "swap header",
  { endian: "le", size: 1536, spec: "Linux, include/linux/swap.h" },
  HEADER,
);
export const SWAP_HEADER_BE = layout(
  "swap header, big-endian",
  { endian: "be", size: 1536, spec: "Linux, include/linux/swap.h" },
  HEADER,
);

const MAGIC = "SWAPSPACE2";
const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536];

export async function identifySwap(device: BlockDevice): Promise<Filesystem | null> {
  const found = await readSwap(device);
  if (!found) return null;
  const { header, pageSize } = found;
  const size = (header.lastPage + 1) * pageSize;
  return {
    type: "swap",
    label: emptyToNull(header.label),
    uuid: header.uuid,
    version: "1",
    size,
    used: null,
    blockSize: pageSize,
  };
}

/** Order: one write of the header's page, flush. */
export async function renewSwap(device: BlockDevice, random: Random): Promise<NewId> {
  const found = await readSwap(device);
  if (!found) throw new DiskError("CORRUPT", `Cannot give ${device.label} a new UUID: it holds no swap header`);
  const renewed = randomUuid(random);
  const sector = (await readAt(device, 1024, 512))!;
  patchFields(SWAP_HEADER, found.bytes, 0, { uuid: renewed });
  sector.set(found.bytes.subarray(1024, 1536));
  await device.write(1024, sector);
  await device.flush();
  return { what: "swap UUID", old: found.header.uuid, new: renewed };
}

async function readSwap(device: BlockDevice) {
  for (const pageSize of PAGE_SIZES) {
    const end = await readAt(device, pageSize - MAGIC.length, MAGIC.length);
    if (!end) return null;
    if (Buffer.from(end).toString("latin1") !== MAGIC) continue;
    const bytes = (await readAt(device, 0, SWAP_HEADER.size))!;
    for (const table of [SWAP_HEADER, SWAP_HEADER_BE]) {
      const header = table.decode(bytes);
      if (header.version === 1 && header.lastPage > 0) return { header, pageSize, bytes };
    }
  }
  return null;
}
