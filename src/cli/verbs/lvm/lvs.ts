/** `xvd lvs`: the volumes of groups, as LVM2's lvs lists them. */
import type { Command } from "commander";
import { findVolume } from "../../../lvm/metadata.js";
import type { Report } from "../../../lvm/report/engine.js";
import { GROUP_FIELDS } from "../../../lvm/report/group-fields.js";
import { measureVolumes } from "../../../lvm/report/measure.js";
import { GroupFacts } from "../../../lvm/report/volume-facts.js";
import {
  SEGMENT_FIELDS,
  SEGMENTS_REPORT,
  VOLUME_FIELDS,
  VOLUMES_REPORT,
  type VolumeRow,
} from "../../../lvm/report/volume-fields.js";
import { findGroup, type Scan } from "../../../lvm/scan.js";
import { groupTargets } from "./options.js";
import { addReportOptions, asksFor, type ReportFlags, runReport } from "./report.js";

export default function define(command: Command): void {
  addReportOptions(command.argument("[names...]", "VG or VG/LV; default: all"))
    .option("--segments", "a row for each segment")
    .action((names: string[], flags: ReportFlags) => {
      const report = lvsReport(flags.segments ?? false);
      const bySegment = (flags.segments ?? false) || asksFor(report, flags, SEGMENT_FIELDS);
      return runReport("lvs", flags, report, (scan) => rowsOf(scan, names, flags, bySegment));
    });
}

function lvsReport(segments: boolean): Report<VolumeRow> {
  return {
    ...(segments ? SEGMENTS_REPORT : VOLUMES_REPORT),
    fields: [...VOLUME_FIELDS, ...SEGMENT_FIELDS, ...GROUP_FIELDS],
  };
}

async function rowsOf(
  scan: Scan,
  names: readonly string[],
  { all = false }: ReportFlags,
  bySegment: boolean,
): Promise<VolumeRow[]> {
  const targets = names.length > 0 ? groupTargets(names) : new Map(scan.groups.map(({ group }) => [group.name, null]));
  const groups = [...targets].flatMap(([name, volumes]) => {
    const found = names.length > 0 ? [findGroup(scan, name)] : scan.groups.filter(({ group }) => group.name === name);
    return found.map((each) => ({ found: each, volumes }));
  });
  const rows: VolumeRow[] = [];
  for (const { found, volumes } of groups) {
    const facts = new GroupFacts(found, await measureVolumes(found));
    const chosen =
      volumes?.map((volume) => findVolume(found.group, volume)) ??
      found.group.logicalVolumes.filter((volume) => !facts.isJoint(volume) && (all || facts.isShown(volume)));
    for (const volume of chosen)
      for (const segment of bySegment ? volume.segments : volume.segments.slice(0, 1))
        rows.push({ facts, volume, segment });
  }
  return rows;
}
