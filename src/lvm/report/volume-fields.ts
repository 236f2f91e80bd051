/** Fields of logical volumes and their segments (lvs). Values that only a kernel has are empty. */
import {
  type Area,
  areaExtents,
  fieldValue,
  type LogicalVolume,
  numberField,
  type Segment,
  textField,
  volumeSize,
} from "../metadata.js";
import type { Field, FieldValue, Report } from "./engine.js";
import type { GroupFacts } from "./volume-facts.js";

export interface VolumeRow {
  readonly facts: GroupFacts;
  readonly volume: LogicalVolume;
  /** The row's segment; the first one where rows are whole volumes. */
  readonly segment: Segment;
}

const SECTOR = 512;

type Get = (row: VolumeRow) => FieldValue;
const text = (name: string, heading: string, get: Get): Field<VolumeRow> => ({ name, heading, kind: "text", get });
const number = (name: string, heading: string, get: Get): Field<VolumeRow> => ({ name, heading, kind: "number", get });
const size = (name: string, heading: string, get: Get): Field<VolumeRow> => ({ name, heading, kind: "size", get });
const list = (name: string, heading: string, get: Get, join = ","): Field<VolumeRow> => ({
  name,
  heading,
  kind: "list",
  get,
  join,
});

const percent = (name: string, heading: string, get: (row: VolumeRow) => number | undefined): Field<VolumeRow> => ({
  name,
  heading,
  kind: "percent",
  get: (row) => get(row) ?? null,
});

const nothing: Get = () => null;
const uuid = (volume: LogicalVolume | undefined) => volume?.id ?? null;
const shown = ({ facts }: VolumeRow, volume: LogicalVolume | undefined) => (volume ? facts.shownName(volume) : null);
/** Another volume that the first segment names. */
const named = (key: string) => (row: VolumeRow) => row.facts.volume(textField(row.volume.segments[0]!, key));
const poolPart = (key: string) => (row: VolumeRow) =>
  row.volume.segments[0]?.type === "thin-pool" ? named(key)(row) : undefined;
const sectors = (row: VolumeRow, key: string) => (numberField(row.segment, key) ?? 0) * SECTOR;

export const VOLUME_FIELDS: readonly Field<VolumeRow>[] = [
  text("lv_uuid", "LV UUID", ({ volume }) => volume.id),
  text("lv_name", "LV", (row) => shown(row, row.volume)),
  text("lv_full_name", "LV", ({ facts, volume }) => `${facts.found.group.name}/${volume.name}`),
  text("lv_path", "Path", ({ facts, volume }) =>
    facts.isShown(volume) && volume.segments[0]?.type !== "thin-pool"
      ? `lvm:${facts.found.group.name}/${volume.name}`
      : null,
  ),
  text("lv_parent", "Parent", ({ facts, volume }) => facts.parentOf(volume)?.name ?? null),
  list("lv_layout", "Layout", ({ facts, volume }) => facts.layoutOf(volume)),
  list("lv_role", "Role", ({ facts, volume }) => facts.roleOf(volume)),
  text("lv_merging", "Merging", ({ facts, volume }) =>
    facts.snapshotOf(volume)?.merging || facts.snapshotsOn(volume).some(({ merging }) => merging) ? "merging" : null,
  ),
  text("lv_converting", "Converting", nothing),
  text("lv_allocation_policy", "AllocPol", ({ volume }) => volume.allocation),
  text("lv_allocation_locked", "AllocLock", ({ volume }) =>
    volume.status.includes("LOCKED") ? "allocation locked" : null,
  ),
  text("lv_fixed_minor", "FixMin", ({ volume }) => (volume.status.includes("FIXED_MINOR") ? "fixed minor" : null)),
  text("lv_skip_activation", "SkipAct", ({ volume }) =>
    volume.flags.includes("ACTIVATION_SKIP") ? "skip activation" : null,
  ),
  text("lv_autoactivation", "AutoAct", ({ volume }) => (volume.flags.includes("NOAUTOACTIVATE") ? null : "enabled")),
  text("lv_when_full", "WhenFull", ({ volume }) =>
    volume.segments[0]?.type === "thin-pool" ? (volume.flags.includes("ERROR_WHEN_FULL") ? "error" : "queue") : null,
  ),
  text("lv_active", "Active", nothing),
  number("lv_major", "Maj", ({ volume }) => minor(volume, "major")),
  number("lv_minor", "Min", ({ volume }) => minor(volume, "minor")),
  text("lv_read_ahead", "Rahead", ({ volume }) => readAhead(volume)),
  size("lv_size", "LSize", ({ facts, volume }) => volumeSize(facts.found.group, volume)),
  size("lv_metadata_size", "MSize", (row) => {
    const part = poolPart("metadata")(row);
    return part ? volumeSize(row.facts.found.group, part) : null;
  }),
  number("seg_count", "#Seg", ({ volume }) => volume.segments.length),
  text("origin", "Origin", (row) => shown(row, row.facts.originOf(row.volume))),
  text("origin_uuid", "Origin UUID", ({ facts, volume }) => uuid(facts.originOf(volume))),
  size("origin_size", "OSize", ({ facts, volume }) => {
    const origin = facts.snapshotsOn(volume).length > 0 ? volume : facts.snapshotOf(volume) && facts.originOf(volume);
    return origin ? volumeSize(facts.found.group, origin) : null;
  }),
  list("lv_ancestors", "Ancestors", ({ facts, volume }) => facts.ancestorsOf(volume)),
  list("lv_descendants", "Descendants", ({ facts, volume }) => facts.descendantsOf(volume)),
  text("move_pv", "Move", nothing),
  text("convert_lv", "Convert", nothing),
  text("mirror_log", "Log", (row) => shown(row, named("mirror_log")(row))),
  text("mirror_log_uuid", "Log UUID", (row) => uuid(named("mirror_log")(row))),
  text("data_lv", "Data", (row) => shown(row, poolPart("pool")(row))),
  text("data_lv_uuid", "Data UUID", (row) => uuid(poolPart("pool")(row))),
  text("metadata_lv", "Meta", (row) => shown(row, poolPart("metadata")(row))),
  text("metadata_lv_uuid", "Meta UUID", (row) => uuid(poolPart("metadata")(row))),
  text("pool_lv", "Pool", (row) => shown(row, row.facts.poolOf(row.volume))),
  text("pool_lv_uuid", "Pool UUID", ({ facts, volume }) => uuid(facts.poolOf(volume))),
  list("lv_tags", "LV Tags", ({ volume }) => volume.tags.toSorted()),
  text("lv_profile", "LProfile", ({ volume }) => (fieldValue(volume.rest, "profile") as string | undefined) ?? null),
  text("lv_time", "CTime", ({ volume }) => (volume.creationTime === null ? null : time(volume.creationTime))),
  text("lv_host", "Host", ({ volume }) => volume.creationHost),
  percent("data_percent", "Data%", ({ facts, volume }) => facts.measured(volume).dataPercent),
  percent("snap_percent", "Snap%", ({ facts, volume }) => {
    const { store, dataPercent } = facts.measured(volume);
    return store && dataPercent;
  }),
  percent("metadata_percent", "Meta%", ({ facts, volume }) => facts.measured(volume).metadataPercent),
  text("copy_percent", "Cpy%Sync", nothing),
  text("sync_percent", "Cpy%Sync", nothing),
  text("lv_health_status", "Health", ({ facts, volume }) =>
    facts.isPartial(volume) ? "partial" : (facts.measured(volume).health ?? null),
  ),
  text("lv_check_needed", "CheckNeeded", ({ facts, volume }) =>
    facts.measured(volume).needsCheck ? "check needed" : null,
  ),
  text("lv_snapshot_invalid", "SnapInvalid", ({ facts, volume }) =>
    facts.measured(volume).store?.valid === false ? "snapshot invalid" : null,
  ),
  text("lv_attr", "Attr", ({ facts, volume }) => facts.attributesOf(volume)),
];

export const SEGMENT_FIELDS: readonly Field<VolumeRow>[] = [
  text("segtype", "Type", ({ segment }) => shownType(segment)),
  number("stripes", "#Str", ({ segment }) => stripes(segment)),
  number("data_stripes", "#DStr", ({ segment }) => stripes(segment) - parity(segment)),
  size("stripe_size", "Stripe", (row) => sectors(row, "stripe_size")),
  size("region_size", "Region", (row) => sectors(row, "region_size")),
  size("chunk_size", "Chunk", (row) => {
    const snapshot = row.facts.snapshotOf(row.volume);
    return snapshot ? (numberField(snapshot.segment, "chunk_size") ?? 0) * SECTOR : sectors(row, "chunk_size");
  }),
  number("thin_count", "#Thins", ({ facts, volume, segment }) =>
    segment.type === "thin-pool" ? facts.thinVolumesIn(volume).length : null,
  ),
  text("discards", "Discards", ({ facts, volume }) => {
    const pool = volume.segments[0]?.type === "thin-pool" ? volume : facts.poolOf(volume);
    return pool ? textField(pool.segments[0]!, "discards") : null;
  }),
  number("transaction_id", "TransId", ({ segment }) => numberField(segment, "transaction_id")),
  number("thin_id", "ThId", ({ segment }) => (segment.type === "thin" ? numberField(segment, "device_id") : null)),
  size("seg_start", "Start", ({ facts, segment }) => segment.start * facts.found.group.extentSize),
  number("seg_start_pe", "Start", ({ segment }) => segment.start),
  size("seg_size", "SSize", ({ facts, segment }) => segment.count * facts.found.group.extentSize),
  number("seg_size_pe", "SSize", ({ segment }) => segment.count),
  list("seg_tags", "Seg Tags", ({ segment }) => segment.tags.toSorted()),
  list("seg_pe_ranges", "PE Ranges", (row) => ranges(row, false), " "),
  list("seg_le_ranges", "LE Ranges", (row) => ranges(row, true)),
  list("devices", "Devices", (row) => areas(row).map((area) => `${device(row, area, false)}(${begin(area)})`)),
  list("metadata_devices", "Metadata Devs", (row) =>
    row.segment.metadataAreas.map((area) => `${device(row, area, false)}(${begin(area)})`),
  ),
];

/** The name of the field that begins each other row; prefixes as in LVM2. */
export const VOLUMES_REPORT: Omit<Report<VolumeRow>, "fields"> = {
  name: "lv",
  columns: [
    "lv_name",
    "vg_name",
    "lv_attr",
    "lv_size",
    "pool_lv",
    "origin",
    "data_percent",
    "metadata_percent",
    "move_pv",
    "mirror_log",
    "copy_percent",
    "convert_lv",
  ],
  sort: ["vg_name", "lv_name"],
  prefixes: ["lv_", "seg_", "vg_"],
};

export const SEGMENTS_REPORT: Omit<Report<VolumeRow>, "fields"> = {
  ...VOLUMES_REPORT,
  name: "seg",
  columns: ["lv_name", "vg_name", "lv_attr", "stripes", "segtype", "seg_size"],
  sort: ["vg_name", "lv_name", "seg_start"],
};

function minor(volume: LogicalVolume, key: string): number {
  const value = fieldValue(volume.rest, key);
  return volume.status.includes("FIXED_MINOR") && typeof value === "number" ? value : -1;
}

function readAhead(volume: LogicalVolume): string {
  const value = fieldValue(volume.rest, "read_ahead");
  return typeof value === "number" ? (value === -1 ? "none" : String(value)) : "auto";
}

function time(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString().replace(/T(.*)\.000Z$/, " $1 +0000");
}

export function shownType({ type, typeFlags, areas: { length } }: Segment): string {
  return [type === "striped" && length === 1 ? "linear" : type, ...typeFlags].join("+");
}

function stripes({ type, areas: { length } }: Segment): number {
  if (length > 0) return length;
  return type === "thin-pool" ? 1 : 0;
}

/** Images that hold no data of their own. */
function parity({ type }: Segment): number {
  return /^raid[45]/.test(type) ? 1 : type.startsWith("raid6") ? 2 : 0;
}

/** A thin pool's only area is its data. */
function areas({ segment }: VolumeRow): readonly Area[] {
  const pool = segment.type === "thin-pool" ? textField(segment, "pool") : null;
  return pool === null ? segment.areas : [{ kind: "lv", lv: pool, le: 0 }];
}

function begin(area: Area): number {
  return area.kind === "pv" ? area.pe : area.le;
}

function device({ facts }: VolumeRow, area: Area, brackets: boolean): string {
  if (area.kind === "lv") return (brackets ? facts.bracketed(area.lv) : null) ?? area.lv;
  return facts.found.members.get(area.pv)?.name ?? "[unknown]";
}

function ranges(row: VolumeRow, brackets: boolean): string[] {
  const { segment } = row;
  const whole = /^raid([^1]|10)/.test(segment.type) ? null : areaExtents(segment);
  return areas(row).map((area) => {
    const count = whole ?? Math.ceil(segment.count / Math.max(1, stripes(segment) - parity(segment)));
    return `${device(row, area, brackets)}:${begin(area)}-${begin(area) + count - 1}`;
  });
}
