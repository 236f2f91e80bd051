/** `xvd pvck`: a physical volume's label, headers and texts as they lie on a disk, in the form of LVM2's pvck; and their repair. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { BlockDevice } from "../../../block/device.js";
import { printable } from "../../../bytes/printable.js";
import { DiskError } from "../../../errors.js";
import type { DumpKind } from "../../../lvm/dump.js";
import type { RepairSettings, RepairSource, RepairType } from "../../../lvm/repair-pv.js";
import { diskContext, withDisk } from "../../disk.js";
import { Exit } from "../../exit.js";
import { printJson, printLines } from "../../print.js";
import { type CommonFlags, chosenDevices, collectList, isDryRun, lvmContext, usage } from "./options.js";

interface Flags extends CommonFlags {
  readonly dump?: DumpKind;
  readonly repair?: boolean;
  readonly repairtype?: RepairType;
  readonly settings?: RepairSettings;
  readonly file?: string;
  readonly copy?: string;
  readonly format?: string;
}

export default function define(command: Command): void {
  command
    .argument("<disk>", "a physical volume, sound or not")
    .addOption(
      new Option(
        "--dump <what>",
        "print headers, the text in force, all texts of the areas, or all that a search finds",
      ).choices(["headers", "metadata", "metadata_all", "metadata_search"]),
    )
    .option("--repair", "make label, headers and metadata anew; --dry-run shows what would be written")
    .addOption(
      new Option("--repairtype <type>", "only the label, or only the metadata").choices([
        "label_header",
        "pv_header",
        "metadata",
      ]),
    )
    .option("-f, --file <file>", "write dumped texts into a file; with --repair: the text to write")
    .option("--copy <file>", "with --repair: leave the disk as it is and repair a copy")
    .option(
      "--settings <list>",
      "'metadata_offset=8192 mda_offset=4096 mda_size=1044480 pv_uuid=…': what is known better than the disk says it",
      parseSettings,
    )
    .option("--devices <disks>", "where other volumes of its group are looked for", collectList)
    .option("-y, --yes", "write it")
    .option("-t, --test", "the same as --dry-run")
    .option("--dry-run", "print what would be written")
    .option("--format <format>", "format of the image; .dsk .img .raw are raw, others go by their extension")
    .addHelpText(
      "after",
      "\nWithout --file the text comes from another volume of the group, from the disk's other area, or from what is left in the ring.",
    )
    .action((text: string, flags: Flags) =>
      flags.repair || flags.repairtype ? repair(text, flags) : show(text, flags),
    );
}

async function show(text: string, flags: Flags): Promise<void> {
  const { dumpPv, foundLines } = await import("../../../lvm/dump.js");
  const { writeTextFile } = await import("../../../os/state-files.js");
  const { byteGranular } = await import("../../../block/aligned.js");
  const damaged = await withDisk(text, { ...flags, forceShare: true }, async ({ device }) => {
    const disk = byteGranular(device);
    const dump = flags.dump
      ? await dumpPv(disk, flags.dump, flags.settings)
      : { lines: await foundLines(disk, text), texts: [], damaged: false };
    const { lines, texts } = dump;
    if (flags.file !== undefined) writeTextFile(flags.file, texts.join(""), "latin1");
    const printsText = flags.dump === "metadata" && flags.file === undefined && texts.length > 0;
    if (flags.json) printJson({ lines, texts });
    else printLines(lines);
    if (printsText && !flags.json) process.stdout.write(`  ---\n${printableText(texts.join(""))}\n  ---\n`);
    return dump.damaged && (flags.dump === "headers" || flags.dump === "metadata");
  });
  if (damaged) throw new Exit(1);
}

/** Lines and tabs stay as they are: the text can be used as a file. */
function printableText(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}

async function repair(text: string, flags: Flags): Promise<void> {
  const { planRepair, runRepair } = await import("../../../lvm/repair-pv.js");
  const { byteGranular } = await import("../../../block/aligned.js");
  const { canonicalName } = await import("../../../stack/lvm/devices.js");
  const dryRun = isDryRun(flags);
  if (flags.copy !== undefined && !dryRun) await copyOf(text, flags.copy, flags);
  const disk = flags.copy === undefined || dryRun ? text : flags.copy;
  const write = !dryRun && (flags.yes ?? false);
  await withDisk(disk, { ...flags, writable: write, shared: write, forceShare: !write }, async ({ device }) => {
    const bytes = byteGranular(device);
    const name = canonicalName(text);
    const plan = await planRepair(bytes, {
      source: await sourceFor(bytes, name, flags),
      name,
      ...(flags.repairtype ? { type: flags.repairtype } : {}),
      ...(flags.settings ? { settings: flags.settings } : {}),
    });
    if (write) await runRepair(bytes, plan);
    const lines = plan.lines.length > 0 ? plan.lines : ["Nothing to repair."];
    if (flags.json) printJson({ "dry-run": !write, steps: lines });
    else printLines(lines.map((line) => `  ${line}`));
    if (!write && !dryRun && plan.lines.length > 0)
      throw new DiskError(
        "DENIED",
        `Cannot repair ${text} without being told to: the above would be written, allowed with --yes`,
      );
  });
}

async function copyOf(text: string, target: string, flags: Flags): Promise<void> {
  const { copyDisk } = await import("../../../stack/copy-disk.js");
  await withDisk(text, flags, (disk) => copyDisk(disk, target, { mode: "auto", ...diskContext() }));
}

/** The text to write: the user's, that of the group's other volumes, or the best that is left on the disk. */
async function sourceFor(device: BlockDevice, name: string, flags: Flags): Promise<RepairSource> {
  const { otherText, ownTexts } = await import("../../../lvm/repair-pv.js");
  const { readHead } = await import("../../../lvm/dump.js");
  const { findLabel } = await import("../../../lvm/label.js");
  const { openSession } = await import("../../../stack/lvm/open-session.js");
  if (flags.file !== undefined) {
    const { readTextFile } = await import("../../../os/state-files.js");
    const text = readTextFile(flags.file);
    if (text === null) throw new DiskError("NOT_FOUND", `Cannot read ${JSON.stringify(flags.file)}: no such file`);
    return { text: text.replace(/\0+$/, ""), from: flags.file };
  }
  if (flags.settings?.metadata_offset === undefined) {
    const context = lvmContext("pvck");
    const session = await openSession(chosenDevices(context, flags), { paths: context.paths });
    try {
      const other = await otherText(session.scan, findLabel(await readHead(device)).label, name);
      if (other) return other;
    } finally {
      await session.close();
    }
  }
  const [own] = await ownTexts(device, flags.settings ?? {});
  if (own) return own;
  throw new DiskError(
    "NOT_FOUND",
    `Cannot repair ${device.label}: no sound metadata is left on it or on other devices, allowed with --file from a backup`,
  );
}

function parseSettings(text: string): RepairSettings {
  const numbers = ["metadata_offset", "mda_offset", "mda_size", "mda2_offset", "mda2_size"];
  const settings: Record<string, string | number> = {};
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const [key = "", value = ""] = word.split("=");
    if (key === "pv_uuid") settings[key] = value;
    else if (numbers.includes(key) && /^\d{1,15}$/.test(value)) settings[key] = Number(value);
    else throw new InvalidArgumentError(`allowed are ${numbers.join("= ")}= with bytes, and pv_uuid=`);
  }
  if (Object.keys(settings).length === 0) throw usage("No settings are given");
  return settings;
}
