/** `xvd pvs`: physical volumes, as LVM2's pvs lists them. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import type { Field, Report } from "../../../lvm/report/engine.js";
import { GROUP_FIELDS } from "../../../lvm/report/group-fields.js";
import {
  PV_FIELDS,
  PV_SEGMENT_FIELDS,
  PV_SEGMENTS_REPORT,
  PVS_REPORT,
  type PvRow,
  pvRuns,
} from "../../../lvm/report/pv-fields.js";
import { GroupFacts } from "../../../lvm/report/volume-facts.js";
import type { Scan } from "../../../lvm/scan.js";
import { canonicalName } from "../../../stack/lvm/devices.js";
import { addReportOptions, asksFor, type ReportFlags, runReport } from "./report.js";

export default function define(command: Command): void {
  addReportOptions(command.argument("[disks...]", "physical volumes; default: all"))
    .option("--segments", "a row for each run of extents")
    .action((names: string[], flags: ReportFlags) => {
      const report: Report<PvRow> = {
        ...(flags.segments ? PV_SEGMENTS_REPORT : PVS_REPORT),
        fields: [...PV_FIELDS, ...PV_SEGMENT_FIELDS, ...GROUP_FIELDS.map(ofGroup)],
      };
      const bySegment = (flags.segments ?? false) || asksFor(report, flags, PV_SEGMENT_FIELDS);
      const devices = flags.devices ?? undefined;
      return runReport("pvs", { ...flags, ...(devices ? { devices } : {}) }, report, (scan) =>
        rowsOf(scan, names, bySegment),
      );
    });
}

/** A group's field for a volume that may be in none. */
function ofGroup(field: (typeof GROUP_FIELDS)[number]): Field<PvRow> {
  return { ...field, get: ({ facts }) => (facts ? field.get({ facts }) : null) };
}

function rowsOf(scan: Scan, names: readonly string[], bySegment: boolean): PvRow[] {
  const rows = [...scan.groups.flatMap((found) => groupRows(new GroupFacts(found), bySegment)), ...freeRows(scan)];
  if (names.length === 0) return rows;
  return names.flatMap((name) => {
    const chosen = rows.filter(({ found }) => found?.name === canonicalName(name));
    if (chosen.length === 0)
      throw new DiskError("NOT_FOUND", `Failed to find physical volume "${name}".`, { details: { device: name } });
    return chosen;
  });
}

function groupRows(facts: GroupFacts, bySegment: boolean): PvRow[] {
  const { group, members } = facts.found;
  return group.physicalVolumes.flatMap((entry) => {
    const runs = bySegment ? pvRuns(group, entry) : [{ pe: 0, count: entry.peCount }];
    return runs.map((run) => ({ facts, entry, found: members.get(entry.name) ?? null, duplicate: false, run }));
  });
}

function freeRows({ free }: Scan): PvRow[] {
  return free.map((found) => ({ facts: null, entry: null, found, duplicate: false, run: { pe: 0, count: 0 } }));
}
