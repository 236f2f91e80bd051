/** The label of a physical volume as a value, and back to its sector. Unknown flags and further areas are kept. */
import { DiskError } from "../errors.js";
import { lvmCrc } from "./crc.js";
import { formatId, parseId } from "./id.js";
import { DISK_LOCATION, LABEL_HEADER, LABEL_SECTORS, PV_EXTENSION, PV_HEADER, SECTOR } from "./layout.js";

export interface DiskArea {
  /** Bytes from the begin of the device. */
  readonly offset: number;
  /** Bytes; 0: to the end. */
  readonly size: number;
}

export interface PvLabel {
  /** Sector in which it lies, 0 to 3. */
  readonly sector: number;
  /** With hyphens. */
  readonly id: string;
  /** Bytes, as of pvcreate or pvresize. */
  readonly deviceSize: number;
  /** One in practice; the first begins where the extents begin. */
  readonly dataAreas: readonly DiskArea[];
  readonly metadataAreas: readonly DiskArea[];
  readonly bootAreas: readonly DiskArea[];
  /** Null: an old label without one. */
  readonly extension: { readonly version: number; readonly flags: number } | null;
}

/** The extension's flag: some group has this volume. */
export const IN_USE = 1;

export function isInUse({ extension }: PvLabel): boolean {
  return extension !== null && (extension.flags & IN_USE) !== 0;
}

/** The same label with the flag set or cleared; gets an extension where it has none. */
export function withInUse(label: PvLabel, inUse: boolean): PvLabel {
  const { version, flags } = label.extension ?? { version: 2, flags: 0 };
  return { ...label, extension: { version, flags: inUse ? flags | IN_USE : flags & ~IN_USE } };
}

export interface FoundLabel {
  /** Null: the device is no physical volume. */
  readonly label: PvLabel | null;
  /** Why something that looks like a label is none, or is not used; a sentence each. */
  readonly problems: readonly string[];
}

/** Looks through the first sectors of a device. `head` holds at least 2048 bytes, or the whole device when that is smaller. */
export function findLabel(head: Uint8Array): FoundLabel {
  const problems: string[] = [];
  let found: PvLabel | null = null;
  for (let sector = 0; sector < LABEL_SECTORS && (sector + 1) * SECTOR <= head.length; sector++) {
    const bytes = head.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    if (Buffer.from(bytes.subarray(0, 8)).toString("latin1") !== "LABELONE") continue;
    try {
      const label = decodeLabel(bytes, sector);
      if (found) problems.push(`the label in sector ${sector} is a second one and not used`);
      found ??= label;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      problems.push(`the label in sector ${sector} is not used: ${error.message}`);
    }
  }
  return { label: found, problems };
}

/** Throws `CORRUPT`. */
export function decodeLabel(bytes: Uint8Array, sector: number): PvLabel {
  const header = LABEL_HEADER.decode(bytes);
  const crc = lvmCrc(bytes.subarray(20, SECTOR));
  if (header.crc !== crc) throw bad(`its checksum is 0x${header.crc.toString(16)}, allowed 0x${crc.toString(16)}`);
  if (header.sector !== sector) throw bad(`it says that it lies in sector ${header.sector}, it lies in ${sector}`);
  const { offset } = header;
  if (offset < LABEL_HEADER.size || offset > SECTOR - PV_HEADER.size - 2 * DISK_LOCATION.size)
    throw bad(`its header is at byte ${offset}, allowed ${LABEL_HEADER.size}..${SECTOR - PV_HEADER.size - 32}`);
  const { id, deviceSize } = PV_HEADER.decode(bytes, offset);
  if (parseId(id) === null) throw bad(`its id is ${JSON.stringify(id)}, allowed 32 letters and digits`);
  const data = readList(bytes, offset + PV_HEADER.size);
  const metadata = readList(bytes, data.end);
  const extension = metadata.end + PV_EXTENSION.size <= SECTOR ? PV_EXTENSION.decode(bytes, metadata.end) : null;
  const boot = extension && extension.version > 0 ? readList(bytes, metadata.end + PV_EXTENSION.size) : null;
  return {
    sector,
    id: formatId(id),
    deviceSize,
    dataAreas: data.areas,
    metadataAreas: metadata.areas,
    bootAreas: boot?.areas ?? [],
    extension: extension && extension.version > 0 ? extension : null,
  };
}

/** A whole sector. Throws `NO_SPACE` for more areas than a label holds. */
export function encodeLabel(label: PvLabel): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  PV_HEADER.encode({ id: parseId(label.id)!, deviceSize: label.deviceSize }, bytes, LABEL_HEADER.size);
  let at = writeList(bytes, LABEL_HEADER.size + PV_HEADER.size, label.dataAreas);
  at = writeList(bytes, at, label.metadataAreas);
  if (label.extension) {
    PV_EXTENSION.encode(label.extension, bytes, at);
    writeList(bytes, at + PV_EXTENSION.size, label.bootAreas);
  }
  LABEL_HEADER.encode({ sector: label.sector, crc: 0, offset: LABEL_HEADER.size }, bytes);
  LABEL_HEADER.encode({ sector: label.sector, crc: lvmCrc(bytes.subarray(20)), offset: LABEL_HEADER.size }, bytes);
  return bytes;
}

function readList(bytes: Uint8Array, start: number): { areas: DiskArea[]; end: number } {
  const areas: DiskArea[] = [];
  for (let at = start; at + DISK_LOCATION.size <= SECTOR; at += DISK_LOCATION.size) {
    const area = DISK_LOCATION.decode(bytes, at);
    if (area.offset === 0 && area.size === 0) return { areas, end: at + DISK_LOCATION.size };
    areas.push(area);
  }
  throw bad(`its list of areas at byte ${start} has no end`);
}

function writeList(bytes: Uint8Array, start: number, areas: readonly DiskArea[]): number {
  const end = start + (areas.length + 1) * DISK_LOCATION.size;
  if (end > SECTOR - PV_EXTENSION.size)
    throw new DiskError("NO_SPACE", `Cannot write LVM2 label: ${areas.length} areas do not fit its sector`);
  for (const [i, area] of areas.entries()) DISK_LOCATION.encode(area, bytes, start + i * DISK_LOCATION.size);
  return end;
}

function bad(found: string): DiskError {
  return new DiskError("CORRUPT", `Cannot read LVM2 label: ${found}`);
}
