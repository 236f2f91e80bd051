/** Fields of physical volumes and of their runs of extents (pvs). */
import { usedRuns } from "../check-group.js";
import { freeExtents } from "../free.js";
import { isInUse } from "../label.js";
import { isMarkedMissing, type PhysicalVolume, type VolumeGroup } from "../metadata.js";
import type { FoundPv } from "../scan.js";
import type { Field, FieldValue, Report } from "./engine.js";
import { areaFree } from "./group-fields.js";
import type { GroupFacts } from "./volume-facts.js";

export interface PvRow {
  /** Null: the volume is in no group. */
  readonly facts: GroupFacts | null;
  /** What the group's metadata says; null: in no group. */
  readonly entry: PhysicalVolume | null;
  /** Null: its device is missing. */
  readonly found: FoundPv | null;
  /** Whether it is a copy of another one, which is used. */
  readonly duplicate: boolean;
  /** A run of extents, used by one volume or by none. */
  readonly run: { readonly pe: number; readonly count: number };
}

type Get = (row: PvRow) => FieldValue;
const field = (kind: Field<PvRow>["kind"], name: string, heading: string, get: Get): Field<PvRow> => ({
  name,
  heading,
  kind,
  get,
});

const areas = ({ found }: PvRow) => found?.areas ?? [];
const total = ({ entry }: PvRow) => entry?.peCount ?? 0;
const free = ({ facts, entry }: PvRow) => (facts && entry ? (freeExtents(facts.found.group).get(entry.name) ?? 0) : 0);
const extentSize = ({ facts }: PvRow) => facts?.found.group.extentSize ?? 0;
const isMissing = ({ found, entry }: PvRow) => !found || (entry !== null && isMarkedMissing(entry));
const size = (row: PvRow) => (row.entry ? total(row) * extentSize(row) : (row.found?.device.size ?? 0));

export const PV_FIELDS: readonly Field<PvRow>[] = [
  field("text", "pv_fmt", "Fmt", () => "lvm2"),
  field("text", "pv_uuid", "PV UUID", ({ found, entry }) => entry?.id ?? found?.label.id ?? null),
  field("size", "dev_size", "DevSize", ({ found }) => found?.device.size ?? 0),
  field("text", "pv_name", "PV", ({ found }) => found?.name ?? "[unknown]"),
  field("size", "pv_mda_free", "PMdaFree", (row) => smallest(areas(row).map(areaFree))),
  field("size", "pv_mda_size", "PMdaSize", (row) => smallest(areas(row).map((area) => area.size))),
  field("number", "pv_ext_vsn", "PExtVsn", ({ found }) => found?.label.extension?.version ?? null),
  field("size", "pe_start", "1st PE", ({ found, entry }) => entry?.peStart ?? found?.label.dataAreas[0]?.offset ?? 0),
  field("size", "pv_size", "PSize", size),
  field("size", "pv_free", "PFree", (row) => (row.entry ? free(row) * extentSize(row) : size(row))),
  field("size", "pv_used", "Used", (row) => (total(row) - free(row)) * extentSize(row)),
  field("text", "pv_attr", "Attr", attributes),
  field("text", "pv_allocatable", "Allocatable", ({ entry }) =>
    entry?.status.includes("ALLOCATABLE") ? "allocatable" : null,
  ),
  field("text", "pv_exported", "Exported", ({ entry }) => (entry?.status.includes("EXPORTED") ? "exported" : null)),
  field("text", "pv_missing", "Missing", (row) => (isMissing(row) ? "missing" : null)),
  field("number", "pv_pe_count", "PE", total),
  field("number", "pv_pe_alloc_count", "Alloc", (row) => total(row) - free(row)),
  field("list", "pv_tags", "PV Tags", ({ entry }) => entry?.tags.toSorted() ?? []),
  field("number", "pv_mda_count", "#PMda", (row) => areas(row).length),
  field("number", "pv_mda_used_count", "#PMdaUse", (row) => areas(row).filter(({ ignored }) => !ignored).length),
  field("size", "pv_ba_start", "BA Start", ({ found }) => found?.label.bootAreas[0]?.offset ?? 0),
  field("size", "pv_ba_size", "BA Size", ({ found }) => found?.label.bootAreas[0]?.size ?? 0),
  field("text", "pv_in_use", "PInUse", ({ found, entry }) =>
    entry || (found && isInUse(found.label)) ? "used" : null,
  ),
  field("text", "pv_duplicate", "Duplicate", ({ duplicate }) => (duplicate ? "duplicate" : null)),
];

export const PV_SEGMENT_FIELDS: readonly Field<PvRow>[] = [
  field("number", "pvseg_start", "Start", ({ run }) => run.pe),
  field("number", "pvseg_size", "SSize", ({ run }) => run.count),
];

export const PVS_REPORT: Omit<Report<PvRow>, "fields"> = {
  name: "pv",
  columns: ["pv_name", "vg_name", "pv_fmt", "pv_attr", "pv_size", "pv_free"],
  sort: ["pv_name"],
  prefixes: ["pv_", "pvseg_", "vg_"],
};

export const PV_SEGMENTS_REPORT: Omit<Report<PvRow>, "fields"> = {
  ...PVS_REPORT,
  name: "pvseg",
  columns: [...PVS_REPORT.columns, "pvseg_start", "pvseg_size"],
  sort: ["pv_name", "pvseg_start"],
};

/** Used runs and the free ones between them. */
export function pvRuns(group: VolumeGroup, entry: PhysicalVolume): PvRow["run"][] {
  const runs: PvRow["run"][] = [];
  let next = 0;
  for (const { pe, count } of usedRuns(group).get(entry.name) ?? []) {
    if (pe > next) runs.push({ pe: next, count: pe - next });
    runs.push({ pe, count });
    next = Math.max(next, pe + count);
  }
  if (next < entry.peCount || runs.length === 0) runs.push({ pe: next, count: entry.peCount - next });
  return runs;
}

function smallest(values: readonly number[]): number {
  return values.length > 0 ? Math.min(...values) : 0;
}

function attributes(row: PvRow): string {
  const { entry, found, duplicate } = row;
  const first = duplicate
    ? "d"
    : entry?.status.includes("ALLOCATABLE")
      ? "a"
      : entry || (found && isInUse(found.label))
        ? "u"
        : "-";
  return `${first}${entry?.status.includes("EXPORTED") ? "x" : "-"}${isMissing(row) ? "m" : "-"}`;
}
