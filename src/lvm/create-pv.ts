/** A new physical volume: where its metadata areas and its data begin, and the writes that make it. LVM2 lib/format_text/format-text.c. */

import type { BlockDevice } from "../block/device.js";
import { alignDown, alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { type DiskArea, encodeLabel, type PvLabel } from "./label.js";
import { LABEL_SECTORS, SECTOR } from "./layout.js";
import { planHeader } from "./metadata-area.js";

const MIB = 1 << 20;
/** Behind the label, on a page. */
const FIRST_AREA = 4096;
const MIN_AREA = 8 * 4096;
const DEFAULT_METADATA = MIB - FIRST_AREA;
export const MIN_PV_SIZE = 2 * MIB;

export interface PvRequest {
  readonly id: string;
  /** Bytes; data begins at a multiple of it. Default 1 MiB. */
  readonly dataAlignment?: number;
  /** Bytes that data begins behind such a multiple. */
  readonly dataAlignmentOffset?: number;
  /** Bytes of each metadata area at least. */
  readonly metadataSize?: number;
  /** Metadata areas: none, at the begin, at the begin and at the end. Default 1. */
  readonly metadataCopies?: 0 | 1 | 2;
  /** Bytes for a boot loader at least. */
  readonly bootAreaSize?: number;
  /** Sector of the label, 0 to 3. Default 1. */
  readonly labelSector?: number;
  /** Bytes to say instead of the device's size. */
  readonly deviceSize?: number;
  /** Where data begins, as on the volume that this one takes the place of. */
  readonly peStart?: number;
}

export interface PvPlan {
  readonly label: PvLabel;
  /** In this order, with a flush before the label: without it the device is no physical volume yet. */
  readonly writes: readonly { readonly offset: number; readonly data: Uint8Array }[];
}

/** Pure. Throws `NO_SPACE` for a device that is too small, `UNSUPPORTED` for numbers that do not go together. */
export function planPv(device: Pick<BlockDevice, "size" | "label">, request: PvRequest): PvPlan {
  const { metadataCopies = 1, labelSector = 1, id } = request;
  const size = request.deviceSize ?? device.size;
  const subject = `Cannot create physical volume on ${device.label}`;
  if (size < MIN_PV_SIZE)
    throw new DiskError("NO_SPACE", `${subject}: it has ${size} bytes, allowed from ${MIN_PV_SIZE} on`);
  const usage = (found: string) => new DiskError("UNSUPPORTED", `${subject}: ${found}`, { details: { usage: true } });
  if (!Number.isInteger(labelSector) || labelSector < 0 || labelSector >= LABEL_SECTORS)
    throw usage(`the label's sector is ${labelSector}, allowed 0..${LABEL_SECTORS - 1}`);
  const places = placeAreas(alignDown(size, SECTOR), request);
  for (const value of [places.peStart, ...places.metadata.map(({ offset }) => offset)])
    if (value % SECTOR !== 0) throw usage(`byte ${value} is on no sector, allowed are multiples of ${SECTOR}`);
  if (places.metadata.some((area) => area.size < MIN_AREA))
    throw usage(
      `a metadata area would have ${Math.min(...places.metadata.map((area) => area.size))} bytes, allowed from ${MIN_AREA} on`,
    );
  if (places.peStart >= places.dataEnd)
    throw new DiskError(
      "NO_SPACE",
      `${subject}: data would begin at byte ${places.peStart}, the room ends at ${places.dataEnd}`,
    );
  const label: PvLabel = {
    sector: labelSector,
    id,
    deviceSize: size,
    dataAreas: [{ offset: places.peStart, size: 0 }],
    metadataAreas: places.metadata.slice(0, metadataCopies),
    bootAreas: places.boot ? [places.boot] : [],
    extension: { version: 2, flags: 0 },
  };
  return { label, writes: writesOf(label) };
}

interface Places {
  readonly metadata: readonly DiskArea[];
  readonly boot: DiskArea | null;
  readonly peStart: number;
  /** Where data has to end. */
  readonly dataEnd: number;
}

function placeAreas(size: number, request: PvRequest): Places {
  const { metadataCopies = 1, metadataSize = DEFAULT_METADATA, bootAreaSize = 0, dataAlignmentOffset = 0 } = request;
  const alignment = request.dataAlignment ?? MIB;
  const align = (offset: number) => alignUp(offset, alignment) + dataAlignmentOffset;
  const afterMetadata = metadataCopies > 0 ? align(FIRST_AREA + metadataSize) : align(FIRST_AREA);
  const bootEnd = bootAreaSize > 0 ? align(afterMetadata + bootAreaSize - dataAlignmentOffset) : afterMetadata;
  const peStart = request.peStart ?? bootEnd;
  const firstEnd = Math.min(bootAreaSize > 0 ? afterMetadata : peStart, peStart);
  const second = alignDown(size - metadataSize, alignment);
  return {
    metadata: [
      ...(metadataCopies > 0 ? [{ offset: FIRST_AREA, size: firstEnd - FIRST_AREA }] : []),
      ...(metadataCopies > 1 ? [{ offset: second, size: size - second }] : []),
    ],
    boot: bootAreaSize > 0 ? { offset: afterMetadata, size: peStart - afterMetadata } : null,
    peStart,
    dataEnd: metadataCopies > 1 ? second : size,
  };
}

function writesOf(label: PvLabel): PvPlan["writes"] {
  const empty = { ignored: false, header: null };
  return [
    { offset: 0, data: new Uint8Array(LABEL_SECTORS * SECTOR) },
    ...label.metadataAreas.map((area) => ({ offset: area.offset, data: new Uint8Array(8 * SECTOR) })),
    ...label.metadataAreas.map((area) => planHeader({ ...area, ...empty }, null, null)),
    { offset: label.sector * SECTOR, data: encodeLabel(label) },
  ];
}

/** Writes the plan. A cut before the last write leaves no physical volume. */
export async function writePv(device: BlockDevice, { writes }: PvPlan): Promise<void> {
  for (const { offset, data } of writes.slice(0, -1)) await device.write(offset, data);
  await device.flush();
  for (const { offset, data } of writes.slice(-1)) await device.write(offset, data);
  await device.flush();
}

/** Extents of a size that fit between `peStart` and the end, or the second metadata area. */
export function peCount(label: PvLabel, extentSize: number, deviceSize: number): number {
  const peStart = label.dataAreas[0]?.offset ?? 0;
  const behind = label.metadataAreas.filter(({ offset }) => offset > peStart).map(({ offset }) => offset);
  const end = Math.min(deviceSize, ...behind);
  return Math.max(0, Math.floor((end - peStart) / extentSize));
}
