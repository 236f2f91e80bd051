/**
 * A logical volume as a device: its segments translated, its bytes where the extents lie. The maths are those of the kernel's
 * linear, striped, raid0, error and zero targets; other types are refused by their name.
 */
import type { BlockDevice } from "../block/device.js";
import { type Location, mapDevice } from "../block/mapped.js";
import { nullDevice } from "../block/null.js";
import { DiskError } from "../errors.js";
import { checkGroup, unknownParts } from "./check-group.js";
import { SECTOR } from "./layout.js";
import {
  type Area,
  areaExtents,
  findVolume,
  type LogicalVolume,
  numberField,
  type Segment,
  type VolumeGroup,
  volumeSize,
} from "./metadata.js";
import { segmentType } from "./segments/types.js";

export interface OpenVolumeOptions {
  readonly writable?: boolean;
  /** For messages. Default `VG/LV`. */
  readonly label?: string;
  /** Closed with the volume. */
  close?(): Promise<void>;
}

/** `devices` by the local name of each physical volume; null for one that is missing: only its extents fail then. */
export function openVolume(
  group: VolumeGroup,
  name: string,
  devices: ReadonlyMap<string, BlockDevice | null>,
  options: OpenVolumeOptions = {},
): BlockDevice {
  const volume = findVolume(group, name);
  const writable = (options.writable ?? false) && isWritable(group, volume);
  const label = options.label ?? `"${group.name}/${name}"`;
  const problems = checkGroup(group);
  if (problems.length > 0)
    throw new DiskError("CORRUPT", `Cannot open ${label}: volume group ${group.name} is damaged: ${problems[0]}`);
  return mapVolume({ group, devices, writable, opened: new Map(), depth: 0 }, volume, label, options.close);
}

/** Whether group and volume allow writing. */
export function isWritable(group: VolumeGroup, volume: LogicalVolume): boolean {
  return group.status.includes("WRITE") && volume.status.includes("WRITE") && unknownParts(group).length === 0;
}

interface Context {
  readonly group: VolumeGroup;
  readonly devices: ReadonlyMap<string, BlockDevice | null>;
  readonly writable: boolean;
  /** Volumes beneath, each opened once. */
  readonly opened: Map<string, BlockDevice>;
  /** Volumes that this one lies beneath. */
  readonly depth: number;
}

/** Of volumes upon volumes; LVM2's own layouts have four. */
const MAX_DEPTH = 32;

/** Bytes of one segment: where its areas begin and how they are walked. */
interface Span {
  readonly start: number;
  readonly end: number;
  locate(offset: number): Location;
}

function mapVolume(context: Context, volume: LogicalVolume, label: string, close?: () => Promise<void>): BlockDevice {
  const { group, devices, writable } = context;
  const spans = volume.segments.map((segment) => spanOf(context, segment, label));
  const used = [...new Set([...devices.values()].filter((device) => device !== null))];
  return mapDevice({
    label,
    size: volumeSize(group, volume),
    blockSize: 1,
    writable,
    locate: async (offset) => {
      const span = spanAt(spans, offset);
      const location = span.locate(offset - span.start);
      return { ...location, length: Math.min(location.length, span.end - offset) };
    },
    async flush() {
      if (writable) await Promise.all(used.map((device) => device.flush()));
    },
    ...(close ? { close } : {}),
  });
}

/** Volumes have few segments, but some have thousands. */
function spanAt(spans: readonly Span[], offset: number): Span {
  let [low, high] = [0, spans.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (offset < spans[middle]!.end) high = middle;
    else low = middle + 1;
  }
  return spans[low]!;
}

function spanOf(context: Context, segment: Segment, label: string): Span {
  const { extentSize } = context.group;
  const start = segment.start * extentSize;
  const end = start + segment.count * extentSize;
  return { start, end, locate: locator(context, segment, label, end - start) };
}

function locator(context: Context, segment: Segment, label: string, length: number): Span["locate"] {
  const { type, typeFlags } = segment;
  if (typeFlags.length > 0) throw unsupported(label, [type, ...typeFlags].join("+"));
  if (type === "zero") {
    const nothing = nullDevice(length, { label }); // takes writes and forgets them, as the kernel's zero target
    return (offset) => ({ kind: "data", device: nothing, offset, length: length - offset, shared: false });
  }
  if (type === "error") return () => failing(label, "this part of the volume is of type error");
  if (type !== "striped" && type !== "raid0" && type !== "raid0_meta") throw unsupported(label, type);
  const stripes = segment.areas.map((area) => areaAt(context, area, areaLength(context, segment), label));
  if (stripes.length === 1) return (offset) => stripes[0]!(offset);
  const chunk = (numberField(segment, "stripe_size") ?? 0) * SECTOR;
  if (chunk < SECTOR || !Number.isInteger(Math.log2(chunk / SECTOR)))
    throw new DiskError(
      "CORRUPT",
      `Cannot open ${label}: its stripe size is ${chunk} bytes, allowed are powers of two from ${SECTOR} on`,
    );
  return (offset) => {
    const number = Math.floor(offset / chunk);
    const within = offset % chunk;
    const location = stripes[number % stripes.length]!(Math.floor(number / stripes.length) * chunk + within);
    return { ...location, length: Math.min(location.length, chunk - within) };
  };
}

/** Bytes that a segment takes of one of its areas. */
function areaLength({ group }: Context, segment: Segment): number {
  const extents = segment.type === "striped" ? areaExtents(segment) : Math.ceil(segment.count / segment.areas.length);
  return extents * group.extentSize;
}

/** Translates bytes of an area to those of the device beneath. */
function areaAt(context: Context, area: Area, length: number, label: string): (offset: number) => Location {
  const { group, devices, opened } = context;
  if (area.kind === "pv") {
    const pv = group.physicalVolumes.find(({ name }) => name === area.pv)!;
    const device = devices.get(area.pv) ?? null;
    const begin = pv.peStart + area.pe * group.extentSize;
    if (!device)
      return () => failing(label, `the physical volume ${pv.id} (${pv.device || "unknown device"}) is missing`);
    const inside = Math.max(0, Math.min(length, device.size - begin));
    return (offset) => {
      if (offset >= inside)
        return failing(label, `its bytes would lie behind the end of ${device.label}, which has ${device.size} bytes`);
      return { kind: "data", device, offset: begin + offset, length: inside - offset, shared: false };
    };
  }
  let device = opened.get(area.lv);
  if (!device) {
    if (context.depth >= MAX_DEPTH)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot open ${label}: volumes lie upon each other more than ${MAX_DEPTH} deep`,
      );
    const deeper = { ...context, depth: context.depth + 1 };
    device = mapVolume(deeper, findVolume(group, area.lv), `"${group.name}/${area.lv}"`);
    opened.set(area.lv, device);
  }
  const below = device;
  const begin = area.le * group.extentSize;
  return (offset) => {
    if (begin + offset >= below.size) return failing(label, `its bytes would lie behind the end of ${below.label}`);
    return {
      kind: "data",
      device: below,
      offset: begin + offset,
      length: Math.min(length - offset, below.size - begin - offset),
      shared: false,
    };
  };
}

function failing(label: string, why: string): never {
  throw new DiskError("IO", `Cannot use ${label}: ${why}`);
}

function unsupported(label: string, type: string): DiskError {
  const known = segmentType(type) ? "segments of this type are only shown by this version" : "this type is not known";
  return new DiskError(
    "UNSUPPORTED",
    `Cannot open ${label}: it is of type ${type}, ${known}, allowed are linear, striped, raid0, error and zero`,
    { details: { segmentType: type } },
  );
}
