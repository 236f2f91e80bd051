/** `xvd io`: patterns written and read, for tests. Commands and meaning are qemu-io's. */
import type { Command } from "commander";
import { DiskError } from "../../errors.js";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { type IoCommand, parseIoCommand, runIoCommand, writes } from "../io-commands.js";
import { printJson, printLines } from "../print.js";

interface Flags extends DiskFlags {
  command: string[];
  readOnly?: boolean;
  dryRun?: boolean;
  json?: boolean;
}

export default function io(command: Command): void {
  addDiskOptions(command.argument("<disk>", "the disk"))
    .option(
      "-c, --command <command>",
      "what to do; repeat for more, they run in order",
      (value, all: string[]) => [...all, value],
      [],
    )
    .option("-r, --read-only", "open it for reading only")
    .option("--dry-run", "read the commands and tell what would be done")
    .addHelpText(
      "after",
      `
Commands:
  write [-f] [-P BYTE] OFFSET LENGTH   write a pattern, 0xcd when none is given; -f: wait until it is on stable storage
  read [-v] [-P BYTE] OFFSET LENGTH    read, with -P fail where the bytes are something else; -v: show them (not with --json)
  writez [-f] OFFSET LENGTH            write zeros, giving back space (also write -z and write -zu)
  discard OFFSET LENGTH                give back space, contents become unspecified
  flush                                wait until everything is on stable storage
Offsets and lengths take units (64k, 1M, 8s) or are hexadecimal bytes (0x1000), and need no alignment. What was written is flushed at the end.`,
    )
    .action((disk: string, flags: Flags) => run(disk, flags));
}

async function run(text: string, flags: Flags): Promise<void> {
  const commands = flags.command.map(parseIoCommand);
  if (commands.length === 0)
    throw new DiskError("UNSUPPORTED", "Cannot do nothing: no command is given, allowed one or more of -c COMMAND", {
      details: { usage: true },
    });
  const changing = commands.some(writes);
  const { byteGranular } = await import("../../block/aligned.js");
  await withDisk(text, { ...flags, writable: changing && !flags.readOnly && !flags.dryRun }, (disk) =>
    interruptible(
      async (signal) => {
        const device = byteGranular(disk.device);
        for (const command of flags.dryRun ? [] : commands) {
          await runIoCommand(device, command, { signal, show: flags.json ? () => {} : printLines });
          if (!flags.json) printLines([outcome(command)]);
        }
        if (device.writable) await device.flush();
        if (flags.json)
          printJson({
            disk: text,
            "dry-run": flags.dryRun ?? false,
            commands: commands.map(({ text: given, verb, offset, length }) => ({
              command: given,
              verb,
              offset,
              length,
            })),
          });
        else if (flags.dryRun) printLines(commands.map((command) => `would ${command.text}`));
      },
      changing ? "some of the commands are carried out" : undefined,
    ),
  );
}

const PAST: Readonly<Record<IoCommand["verb"], string>> = {
  read: "read",
  write: "wrote",
  writez: "zeroed",
  discard: "discarded",
  flush: "flushed",
};

function outcome({ verb, offset, length, pattern }: IoCommand): string {
  if (verb === "flush") return "flushed";
  const checked = verb === "read" && pattern !== null ? `, all 0x${pattern.toString(16).padStart(2, "0")}` : "";
  return `${PAST[verb]} ${length} bytes at offset ${offset}${checked}`;
}
