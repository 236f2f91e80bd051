/** `xvd vgs`: volume groups, as LVM2's vgs lists them. */
import type { Command } from "commander";
import { GROUPS_REPORT } from "../../../lvm/report/group-fields.js";
import { GroupFacts } from "../../../lvm/report/volume-facts.js";
import { findGroup } from "../../../lvm/scan.js";
import { parseGroupName } from "./options.js";
import { addReportOptions, type ReportFlags, runReport } from "./report.js";

export default function define(command: Command): void {
  addReportOptions(command.argument("[vgs...]", "groups; default: all")).action((names: string[], flags: ReportFlags) =>
    runReport("vgs", flags, GROUPS_REPORT, (scan) => {
      const groups =
        names.length > 0 ? [...new Set(names.map(parseGroupName))].map((name) => findGroup(scan, name)) : scan.groups;
      return groups.map((found) => ({ facts: new GroupFacts(found) }));
    }),
  );
}
