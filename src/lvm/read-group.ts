/** Metadata text to a `VolumeGroup`. Throws `CORRUPT` for what contradicts the format; what is merely unknown is kept. */
import { DiskError } from "../errors.js";
import { Fields } from "./config/fields.js";
import { parseConfig } from "./config/parse.js";
import type { Entry, Section } from "./config/tree.js";
import { formatId, isFormattedId, parseId } from "./id.js";
import {
  type AllocationPolicy,
  type Area,
  type LogicalVolume,
  type PhysicalVolume,
  POLICIES,
  type Segment,
  type TextHeader,
  type VolumeGroup,
} from "./metadata.js";
import { segmentType } from "./segments/types.js";

const U32 = 0xffff_ffff;
const SECTOR = 512;
/** Sectors that are still a safe number of bytes. */
const MAX_SECTORS = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR);

export interface GroupText {
  readonly group: VolumeGroup;
  readonly header: TextHeader;
}

/** `what` names the text in errors. Also reads backup files. */
export function readGroupText(text: string, what: string): GroupText {
  const entries = parseConfig(text, what);
  const section = entries.find((entry): entry is Section => entry.kind === "section");
  const top = new Fields(
    entries.filter((entry) => entry !== section),
    what,
  );
  if (top.text("contents", "") !== "Text Format Volume Group")
    throw top.bad('contents is not "Text Format Volume Group"');
  if (top.count("version", U32, 0) !== 1) throw top.bad("version is not 1");
  if (!section) throw top.bad("it holds no volume group");
  const header = {
    description: top.text("description", ""),
    creationHost: top.text("creation_host", ""),
    creationTime: top.count("creation_time", Number.MAX_SAFE_INTEGER, 0),
  };
  return { group: readGroup(section, what), header };
}

function readGroup({ key: name, entries }: Section, what: string): VolumeGroup {
  const where = `volume group ${JSON.stringify(name)} in ${what}`;
  const fields = new Fields(entries, where);
  const pvSections = fields.section("physical_volumes");
  if (!pvSections) throw fields.bad("physical_volumes is missing");
  const physicalVolumes = sectionsOf(pvSections, where).map((section) => readPv(section, where));
  const lvSections = sectionsOf(fields.section("logical_volumes") ?? [], where);
  const names: Names = {
    pvs: new Set(physicalVolumes.map((pv) => pv.name)),
    lvs: new Set(lvSections.map((section) => section.key)),
  };
  if (names.pvs.size !== physicalVolumes.length || names.lvs.size !== lvSections.length)
    throw fields.bad("two volumes have one name");
  fields.text("format", "lvm2");
  return {
    name,
    id: readId(fields),
    seqno: fields.count("seqno", U32),
    status: fields.list("status", true),
    flags: fields.list("flags"),
    tags: fields.list("tags"),
    extentSize: readExtentSize(fields),
    maxLv: fields.count("max_lv", U32, 0),
    maxPv: fields.count("max_pv", U32, 0),
    systemId: fields.text("system_id", ""),
    lockType: fields.text("lock_type", ""),
    allocation: readPolicy(fields, "normal"),
    physicalVolumes,
    logicalVolumes: lvSections.map((section) => readLv(section, where, names)),
    rest: fields.rest(),
  };
}

interface Names {
  readonly pvs: ReadonlySet<string>;
  readonly lvs: ReadonlySet<string>;
}

function sectionsOf(entries: readonly Entry[], where: string): Section[] {
  return entries.map((entry) => {
    if (entry.kind === "section") return entry;
    throw new DiskError("CORRUPT", `Cannot read ${where}: ${entry.key} is a value, allowed are volumes`);
  });
}

function readPv({ key: name, entries }: Section, group: string): PhysicalVolume {
  const fields = new Fields(entries, `physical volume ${JSON.stringify(name)} of ${group}`);
  return {
    name,
    id: readId(fields),
    device: fields.text("device", ""),
    status: fields.list("status", true),
    flags: fields.list("flags"),
    tags: fields.list("tags"),
    deviceSize: fields.has("dev_size") ? fields.count("dev_size", MAX_SECTORS) * SECTOR : null,
    peStart: fields.count("pe_start", MAX_SECTORS) * SECTOR,
    peCount: fields.count("pe_count", U32),
    rest: fields.rest(),
  };
}

function readLv({ key: name, entries }: Section, group: string, names: Names): LogicalVolume {
  const where = `logical volume ${JSON.stringify(name)} of ${group}`;
  const fields = new Fields(entries, where);
  const segmentCount = fields.count("segment_count", U32);
  const segments = fields.sections("segment").map((section) => readSegment(section, where, names));
  if (segments.length !== segmentCount)
    throw fields.bad(`it has ${segments.length} segments, its segment_count is ${segmentCount}`);
  segments.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { start, count } of segments) {
    if (start !== end) throw fields.bad(`a segment begins at extent ${start}, allowed ${end}`);
    end += count;
  }
  if (end > U32) throw fields.bad(`it has ${end} extents, allowed up to ${U32}`);
  return {
    name,
    id: readId(fields),
    status: fields.list("status", true),
    flags: fields.list("flags"),
    tags: fields.list("tags"),
    creationTime: fields.has("creation_time") ? fields.count("creation_time", Number.MAX_SAFE_INTEGER) : null,
    creationHost: fields.has("creation_host") ? fields.text("creation_host") : null,
    allocation: readPolicy(fields, "inherit"),
    segments,
    rest: fields.rest(),
  };
}

function readSegment({ key, entries }: Section, lv: string, names: Names): Segment {
  const fields = new Fields(entries, `${key} of ${lv}`);
  const [type = "", ...typeFlags] = fields.text("type").split("+");
  const start = fields.count("start_extent", U32);
  const count = fields.count("extent_count", U32);
  if (count === 0) throw fields.bad("extent_count is 0, allowed from 1 on");
  const { areas, metadataAreas } = readAreas(fields, type, names);
  if (type === "striped" && count % areas.length !== 0)
    throw fields.bad(`${count} extents do not divide among ${areas.length} stripes`);
  return { start, count, type, typeFlags, tags: fields.list("tags"), areas, metadataAreas, fields: fields.rest() };
}

function readAreas(fields: Fields, type: string, names: Names): Pick<Segment, "areas" | "metadataAreas"> {
  const known = segmentType(type)?.areas;
  if (!known) return { areas: [], metadataAreas: [] };
  const count = fields.count(known.count, U32);
  const values = fields.values(known.key);
  const each = known.form === "image" ? 1 : 2;
  if (!values || values.length !== count * each || count === 0)
    throw fields.bad(`${known.key} lists ${values?.length ?? 0} values, ${known.count} ${count} takes ${count * each}`);
  const area = (name: unknown, extent: unknown): Area => {
    if (typeof extent !== "number" || !Number.isInteger(extent) || extent < 0 || extent > U32)
      throw fields.bad(`an extent in ${known.key} is no number 0..${U32}`);
    if (typeof name === "string" && names.pvs.has(name)) return { kind: "pv", pv: name, pe: extent };
    if (typeof name === "string" && names.lvs.has(name)) return { kind: "lv", lv: name, le: extent };
    throw fields.bad(`${known.key} names ${JSON.stringify(name)}, which the group does not have`);
  };
  const pairs = Array.from({ length: count }, (_, i) => values.slice(i * each, (i + 1) * each));
  switch (known.form) {
    case "name and extent":
      return { areas: pairs.map(([name, extent]) => area(name, extent)), metadataAreas: [] };
    case "image":
      return { areas: pairs.map(([name]) => area(name, 0)), metadataAreas: [] };
    case "metadata and image":
      return {
        areas: pairs.map(([, name]) => area(name, 0)),
        metadataAreas: pairs.map(([name]) => area(name, 0)),
      };
  }
}

function readId(fields: Fields): string {
  const text = fields.text("id");
  if (isFormattedId(text)) return text;
  const id = parseId(text);
  if (id === null) throw fields.bad(`id is ${JSON.stringify(text.slice(0, 60))}, allowed 32 letters and digits`);
  return formatId(id);
}

function readExtentSize(fields: Fields): number {
  const sectors = fields.count("extent_size", U32);
  if (sectors < 2) throw fields.bad(`extent_size is ${sectors} sectors, allowed from 2 on`);
  return sectors * SECTOR;
}

function readPolicy(fields: Fields, fallback: AllocationPolicy): AllocationPolicy {
  const text = fields.text("allocation_policy", fallback);
  const policy = POLICIES.find((name) => name === text);
  if (!policy)
    throw fields.bad(`allocation_policy is ${JSON.stringify(text.slice(0, 60))}, allowed ${POLICIES.join(" ")}`);
  return policy;
}
