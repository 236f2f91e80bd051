/** Fields of volume groups (vgs). */
import { freeExtents } from "../free.js";
import { maxTextSize } from "../metadata-area.js";
import type { FoundArea } from "../scan.js";
import type { Field, FieldValue, Report } from "./engine.js";
import type { GroupFacts } from "./volume-facts.js";

export interface GroupRow {
  readonly facts: GroupFacts;
}

type Get = (facts: GroupFacts) => FieldValue;
const field = (kind: Field<GroupRow>["kind"], name: string, heading: string, get: Get): Field<GroupRow> => ({
  name,
  heading,
  kind,
  get: ({ facts }) => get(facts),
});

const SECTOR = 512;
const areas = ({ found }: GroupFacts) => [...found.members.values()].flatMap((pv) => pv?.areas ?? []);
const extents = ({ found }: GroupFacts) => found.group.physicalVolumes.reduce((sum, pv) => sum + pv.peCount, 0);
const free = ({ found }: GroupFacts) => [...freeExtents(found.group).values()].reduce((sum, count) => sum + count, 0);
const missing = ({ found }: GroupFacts) => [...found.members.values()].filter((pv) => pv === null).length;
const used = (all: readonly FoundArea[]) => all.filter(({ ignored }) => !ignored);

/** What another text may take in an area, as LVM2 counts it. */
export function areaFree(area: FoundArea): number {
  const left = maxTextSize(area) - (area.committed?.size ?? 0);
  return Math.max(0, left - (left % SECTOR));
}

export const GROUP_FIELDS: readonly Field<GroupRow>[] = [
  field("text", "vg_fmt", "Fmt", () => "lvm2"),
  field("text", "vg_uuid", "VG UUID", ({ found }) => found.group.id),
  field("text", "vg_name", "VG", ({ found }) => found.group.name),
  field("text", "vg_attr", "Attr", attributes),
  field("text", "vg_permissions", "VPerms", ({ found }) =>
    found.group.status.includes("WRITE") ? "writeable" : "read-only",
  ),
  field("text", "vg_extendable", "Extendable", ({ found }) =>
    found.group.status.includes("RESIZEABLE") ? "extendable" : null,
  ),
  field("text", "vg_exported", "Exported", ({ found }) =>
    found.group.status.includes("EXPORTED") ? "exported" : null,
  ),
  field("text", "vg_autoactivation", "AutoAct", ({ found }) =>
    found.group.flags.includes("NOAUTOACTIVATE") ? null : "enabled",
  ),
  field("text", "vg_partial", "Partial", (facts) => (missing(facts) > 0 ? "partial" : null)),
  field("text", "vg_allocation_policy", "AllocPol", ({ found }) => found.group.allocation),
  field("text", "vg_clustered", "Clustered", ({ found }) =>
    found.group.status.includes("CLUSTERED") ? "clustered" : null,
  ),
  field("text", "vg_shared", "Shared", ({ found }) => (found.group.lockType === "" ? null : "shared")),
  field("size", "vg_size", "VSize", (facts) => extents(facts) * facts.found.group.extentSize),
  field("size", "vg_free", "VFree", (facts) => free(facts) * facts.found.group.extentSize),
  field("text", "vg_sysid", "SYS ID", ({ found }) => found.group.systemId),
  field("text", "vg_systemid", "System ID", ({ found }) => found.group.systemId),
  field("text", "vg_lock_type", "LockType", ({ found }) => found.group.lockType),
  field("size", "vg_extent_size", "Ext", ({ found }) => found.group.extentSize),
  field("number", "vg_extent_count", "#Ext", extents),
  field("number", "vg_free_count", "Free", free),
  field("number", "max_lv", "MaxLV", ({ found }) => found.group.maxLv),
  field("number", "max_pv", "MaxPV", ({ found }) => found.group.maxPv),
  field("number", "pv_count", "#PV", ({ found }) => found.group.physicalVolumes.length),
  field("number", "vg_missing_pv_count", "#PV Missing", missing),
  field(
    "number",
    "lv_count",
    "#LV",
    (facts) => facts.found.group.logicalVolumes.filter((volume) => facts.isShown(volume)).length,
  ),
  field("number", "snap_count", "#SN", (facts) => facts.snapshotCount),
  field("number", "vg_seqno", "Seq", ({ found }) => found.group.seqno),
  field("list", "vg_tags", "VG Tags", ({ found }) => found.group.tags.toSorted()),
  field("number", "vg_mda_count", "#VMda", (facts) => areas(facts).length),
  field("number", "vg_mda_used_count", "#VMdaUse", (facts) => used(areas(facts)).length),
  field("size", "vg_mda_free", "VMdaFree", (facts) =>
    Math.min(...used(areas(facts)).map(areaFree), Number.MAX_SAFE_INTEGER),
  ),
  field("size", "vg_mda_size", "VMdaSize", (facts) =>
    Math.min(...areas(facts).map((area) => area.size), Number.MAX_SAFE_INTEGER),
  ),
  field("text", "vg_mda_copies", "#VMdaCps", () => "unmanaged"),
];

export const GROUPS_REPORT: Report<GroupRow> = {
  name: "vg",
  fields: GROUP_FIELDS,
  columns: ["vg_name", "pv_count", "lv_count", "snap_count", "vg_attr", "vg_size", "vg_free"],
  sort: ["vg_name"],
  prefixes: ["vg_"],
};

function attributes(facts: GroupFacts): string {
  const { group } = facts.found;
  const has = (name: string) => group.status.includes(name);
  return [
    has("WRITE") ? "w" : "r",
    has("RESIZEABLE") ? "z" : "-",
    has("EXPORTED") ? "x" : "-",
    missing(facts) > 0 ? "p" : "-",
    { inherit: "i", contiguous: "c", cling: "l", normal: "n", anywhere: "a" }[group.allocation],
    has("CLUSTERED") ? "c" : group.lockType === "" ? "-" : "s",
  ].join("");
}
