/** Metadata texts found by looking through a ring, whether or not a header points to them. Nothing is written. */
import type { BlockDevice } from "../block/device.js";
import { lvmCrc } from "./crc.js";
import type { DiskArea } from "./label.js";
import { SECTOR } from "./layout.js";
import { decodeText, type TextLocation } from "./metadata-area.js";

/** Where the first area lies when no label tells it. */
export const DEFAULT_AREA: DiskArea = { offset: 4096, size: (1 << 20) - 4096 };
/** Of a larger area only this much is searched; LVM2's default is 1 MiB. */
const MAX_SEARCH = 128 << 20;

export interface FoundText extends TextLocation {
  /** Byte on the device. */
  readonly at: number;
  readonly text: string;
  /** As they stand in the text; "?" where they do not. */
  readonly name: string;
  readonly seqno: string;
  readonly id: string;
}

/** Every text that begins on a sector of the ring, in their order on the disk. */
export async function searchTexts(device: BlockDevice, { offset, size }: DiskArea): Promise<FoundText[]> {
  const length = Math.min(size, device.size - offset, MAX_SEARCH) - SECTOR;
  if (!(length > 0)) return [];
  const ring = Buffer.alloc(length);
  await device.read(offset + SECTOR, ring);
  const found: FoundText[] = [];
  for (let start = 0; start < length; start += SECTOR) {
    if (!/^[\w.+-]+ \{\nid = "/.test(ring.toString("latin1", start, start + 200))) continue;
    const bytes = textAt(ring, start);
    if (!bytes) continue;
    const text = decodeText(bytes);
    found.push({
      at: offset + SECTOR + start,
      offset: SECTOR + start,
      size: bytes.length,
      crc: lvmCrc(bytes),
      text,
      ...describeText(text),
    });
  }
  return found;
}

/** Up to the zero that ends it, around the ring's end where it has to; null when there is none. */
function textAt(ring: Buffer, start: number): Buffer | null {
  const end = ring.indexOf(0, start);
  if (end >= 0) return ring.subarray(start, end + 1);
  const wrapped = ring.indexOf(0);
  return wrapped >= 0 && wrapped < start ? Buffer.concat([ring.subarray(start), ring.subarray(0, wrapped + 1)]) : null;
}

/** What a text says of its group, without parsing it: it may be damaged. */
export function describeText(text: string): Pick<FoundText, "name" | "seqno" | "id"> {
  return {
    name: /^([\w.+-]+) \{/m.exec(text)?.[1] ?? "?",
    seqno: /^\s*seqno = (\d+)/m.exec(text)?.[1] ?? "?",
    id: /^\s*id = "([^"]*)"/m.exec(text)?.[1] ?? "?",
  };
}
