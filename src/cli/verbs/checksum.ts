/** `xvd checksum`: a digest of the guest-visible bytes, the same for every format and sparseness. */
import type { Command } from "commander";
import { addDiskOptions, type DiskFlags, withDisk } from "../disk.js";
import { interruptible } from "../interrupt.js";
import { printJson, printLines } from "../print.js";
import { withProgress } from "../progress.js";

interface Flags extends DiskFlags {
  json?: boolean;
}

export default function checksum(command: Command): void {
  addDiskOptions(command.argument("<disk>", "the disk to read"))
    .addHelpText(
      "after",
      "\nThe algorithm sha256-4m is SHA-256 over the SHA-256 of each 4 MiB and the size; holes cost no time.",
    )
    .action((disk: string, flags: Flags) => run(disk, flags));
}

async function run(text: string, flags: Flags): Promise<void> {
  const { checksumDevice } = await import("../../block/checksum.js");
  const result = await withDisk(text, flags, ({ device }) =>
    interruptible((signal) =>
      withProgress("checksum", flags, (report) => checksumDevice(device, { signal, ...report })),
    ),
  );
  if (flags.json) printJson(result);
  else printLines([`${result.algorithm}:${result.digest}  ${text}`]);
}
