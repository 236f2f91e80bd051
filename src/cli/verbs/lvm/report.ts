/** What lvs, vgs and pvs have in common: devices looked at, rows made, a table printed. */
import type { Command } from "commander";
import { printable } from "../../../bytes/printable.js";
import { findField, makeTable, type Report } from "../../../lvm/report/engine.js";
import { tableJson, tableLines } from "../../../lvm/report/print.js";
import { parseSelection } from "../../../lvm/report/select.js";
import { parseUnits } from "../../../lvm/report/units.js";
import type { Scan } from "../../../lvm/scan.js";
import { openSession } from "../../../stack/lvm/open-session.js";
import { addCommon, type CommonFlags, chosenDevices, collect, lvmContext } from "./options.js";

export interface ReportFlags extends CommonFlags {
  readonly options?: string[];
  readonly sort?: string;
  readonly select?: string;
  readonly units?: string;
  readonly nosuffix?: boolean;
  readonly noheadings?: boolean;
  readonly separator?: string;
  readonly aligned?: boolean;
  readonly unbuffered?: boolean;
  readonly reportformat?: "basic" | "json";
  readonly all?: boolean;
  readonly segments?: boolean;
}

export function addReportOptions(command: Command): Command {
  return addCommon(command)
    .option("-o, --options <fields>", "fields to show; +a,b adds, -a takes away, all shows every one", collect)
    .option("-O, --sort <fields>", "sort by these, - before one for descending")
    .option("-S, --select <expression>", "only rows for which it holds: 'lv_size>1g && segtype=linear'")
    .option("--units <letter>", "r h b s k m g t p e; upper case: powers of 1000 (default: r)")
    .option("--nosuffix", "sizes without a letter")
    .option("--noheadings", "without the line of headings")
    .option("--separator <text>", "between columns")
    .option("--aligned", "align columns also with --separator")
    .option("--unbuffered", "accepted")
    .option("--reportformat <format>", "basic or json")
    .option("-a, --all", "hidden volumes too");
}

/** Opens the devices, makes rows and prints them. */
export async function runReport<Row>(
  name: string,
  flags: ReportFlags,
  report: Report<Row>,
  rows: (scan: Scan) => readonly Row[] | Promise<readonly Row[]>,
): Promise<void> {
  const units = parseUnits(flags.units ?? "r", !flags.nosuffix);
  const known = (field: string) => findField(report, field) !== undefined;
  const select = flags.select === undefined ? undefined : parseSelection(flags.select, known);
  const context = lvmContext(name);
  const { paths, domainName } = context;
  const session = await openSession(chosenDevices(context, flags), { paths, ...(domainName ? { domainName } : {}) });
  try {
    for (const warning of session.scan.warnings) context.warn(warning);
    const table = makeTable(report, await rows(session.scan), {
      columns: flags.options ?? [],
      units,
      ...(flags.sort === undefined ? {} : { sort: flags.sort }),
      ...(select ? { select } : {}),
    });
    const { separator = null, aligned } = flags;
    const lines =
      flags.json || flags.reportformat === "json"
        ? [tableJson(table)]
        : tableLines(table, { headings: !flags.noheadings, separator, aligned: aligned ?? separator === null }).map(
            printable,
          );
    if (lines.length > 0) process.stdout.write(`${lines.join("\n")}\n`);
  } finally {
    await session.close();
  }
}

/** Whether any wanted column or sort key is one of these: then each of them makes a row. */
export function asksFor<Row>(
  report: Report<Row>,
  flags: ReportFlags,
  fields: readonly { readonly name: string }[],
): boolean {
  const names = [...(flags.options ?? []), flags.sort ?? ""].flatMap((text) => text.replace(/^[+#-]/, "").split(","));
  return names.some((name) => {
    const field = findField(report, name.replace(/^[+-]/, ""));
    return (
      (field !== undefined && fields.some((wanted) => wanted.name === field.name)) ||
      (name === "seg_all" && fields.length > 2) ||
      (name === "pvseg_all" && fields.length === 2)
    );
  });
}
