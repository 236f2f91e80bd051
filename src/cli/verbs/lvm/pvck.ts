/** `xvd pvck`: a physical volume's label, headers and texts as they lie on a disk, in the form of LVM2's pvck. Writes nothing. */
import type { Command } from "commander";
import { Option } from "commander";
import { addDiskOptions, type DiskFlags, withDisk } from "../../disk.js";
import { printJson, printLines } from "../../print.js";

type Dump = "headers" | "metadata" | "metadata_all" | "metadata_search";

interface Flags extends DiskFlags {
  readonly dump?: Dump;
  readonly file?: string;
  readonly json?: boolean;
}

export default function define(command: Command): void {
  addDiskOptions(command.argument("<disk>", "a physical volume, sound or not"))
    .addOption(
      new Option(
        "--dump <what>",
        "print headers, the text in force, all texts by the headers, or all that can be found",
      ).choices(["headers", "metadata", "metadata_all", "metadata_search"]),
    )
    .option("--file <file>", "write texts into a file")
    .action(async (text: string, flags: Flags) => {
      const { dumpPv, foundLines } = await import("../../../lvm/dump.js");
      const { writeTextFile } = await import("../../../os/state-files.js");
      const { byteGranular } = await import("../../../block/aligned.js");
      await withDisk(text, { ...flags, forceShare: true }, async ({ device }) => {
        const disk = byteGranular(device);
        const { lines, texts } = flags.dump
          ? await dumpPv(disk, flags.dump)
          : { lines: await foundLines(disk, text), texts: [] };
        if (flags.file !== undefined) writeTextFile(flags.file, texts.join(""), "latin1");
        const shown =
          flags.file === undefined && texts.length > 0 ? [...lines, "  ---", ...texts.join("").split("\n")] : lines;
        if (flags.json) printJson({ lines, texts });
        else printLines(shown);
      });
    });
}
