/** `xvd check`: whether an image's own tables are in order; for a raw disk what lies on it. Keys and exit codes are qemu-img's. */
import type { Command } from "commander";
import { DiskError } from "../../errors.js";
import { type CheckReport, NOTHING_FOUND } from "../../formats/extensions.js";
import type { CheckedImage } from "../../stack/check-image.js";
import { Exit } from "../exit.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags {
  format?: string;
  repair?: boolean | string;
  forceShare?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

const REPAIRS = ["leaks", "all"] as const;

export default function check(command: Command): void {
  command
    .argument("<disk>", "the image; the files beneath it are not opened")
    .option("-f, --format <format>", "format of the image; default by its extension")
    .option("--repair [what]", "mend it: all (default), or leaks only")
    .option("--force-share", "read although somebody else writes; what is being changed looks damaged")
    .option("--dry-run", "with --repair: tell what would be mended")
    .addHelpText(
      "after",
      "\nExit code: 0 clean (or all mended), 1 it could not be checked, 2 corrupt, 3 leaked space only.",
    )
    .action((disk: string, flags: Flags) => run(disk, flags));
}

async function run(path: string, flags: Flags): Promise<void> {
  const { checkImage } = await import("../../stack/check-image.js");
  const { dryRun = false, forceShare = false } = flags;
  const repair = repairOf(flags.repair);
  const { format, report } = await interruptible(
    (signal) =>
      withProgress("check", flags, (report) =>
        checkImage(path, {
          ...(flags.format ? { format: flags.format } : {}),
          forceShare,
          repair,
          dryRun,
          signal,
          ...report,
        }),
      ).catch((error: unknown) => {
        if (error instanceof DiskError && error.code === "CORRUPT") return headerDamage(path, error);
        throw error;
      }),
    repair === "none" ? undefined : "the image is at least as good as before",
  );
  if (flags.json) printJson(reportDocument(path, format, report));
  else printLines(reportLines(path, report, dryRun && repair !== "none"));
  const code = report.checkErrors > 0 ? 1 : report.corruptions > 0 ? 2 : report.leaks > 0 ? 3 : 0;
  if (code > 0) throw new Exit(code);
}

function repairOf(asked: boolean | string | undefined): "none" | "leaks" | "all" {
  if (asked === undefined || asked === false) return "none";
  if (asked === true) return "all";
  const repair = REPAIRS.find((one) => one === asked);
  if (repair) return repair;
  throw new DiskError("UNSUPPORTED", `Cannot repair ${JSON.stringify(asked)}: allowed ${REPAIRS.join(" ")}`, {
    details: { usage: true },
  });
}

/** Damage that leaves nothing to check by is corruption, not a failure of the check. */
function headerDamage(path: string, error: DiskError): CheckedImage {
  const { message } = error;
  return { path, format: "", report: { ...NOTHING_FOUND, corruptions: 1, problems: [message] } };
}

/** Counts that are zero are left out where qemu-img leaves them out. */
function reportDocument(filename: string, format: string, report: CheckReport): Record<string, unknown> {
  const positive = (key: string, value: number) => (value > 0 ? { [key]: value } : {});
  const known = (key: string, value: number | null) => (value === null ? {} : { [key]: value });
  return {
    filename,
    ...(format === "" ? {} : { format }),
    "check-errors": report.checkErrors,
    ...positive("corruptions", report.corruptions),
    ...positive("leaks", report.leaks),
    ...positive("corruptions-fixed", report.corruptionsFixed),
    ...positive("leaks-fixed", report.leaksFixed),
    ...known("image-end-offset", report.imageEndOffset),
    ...known("total-clusters", report.totalClusters),
    ...known("allocated-clusters", report.allocatedClusters),
    ...known("fragmented-clusters", report.fragmentedClusters),
    ...known("compressed-clusters", report.compressedClusters),
    ...(report.problems.length > 0 ? { problems: report.problems } : {}),
  };
}

function reportLines(path: string, report: CheckReport, wouldMend: boolean): string[] {
  const { corruptions, leaks, corruptionsFixed, leaksFixed, checkErrors, problems } = report;
  const count = (value: number, what: string) => (value > 0 ? [`${value} ${what}`] : []);
  const mended = wouldMend ? "would be mended" : "mended";
  const found = [
    ...count(corruptions, "corrupt"),
    ...count(leaks, "leaked"),
    ...count(checkErrors, "could not be checked"),
    ...count(corruptionsFixed, `corrupt ${mended}`),
    ...count(leaksFixed, `leaked ${mended}`),
  ];
  const { allocatedClusters: allocated, totalClusters: total } = report;
  const use = allocated === null || total === null ? "" : `; ${allocated} of ${total} clusters in use`;
  return [
    ...problems.map((problem) => `${path}: ${problem}`),
    `${path}: ${found.length === 0 ? "no errors found" : found.join(", ")}${use}`,
  ];
}
