/** `xvd part add`: one more partition. */
import { randomBytes } from "node:crypto";
import type { Command } from "commander";
import { parseSize } from "../../../bytes/size.js";
import { parseAttributes } from "../../../partitions/attributes.js";
import { type AddRequest, planAdd } from "../../../partitions/changes/add.js";
import { usageError } from "../../../partitions/plan.js";
import { aliasList } from "../../../partitions/type-codes.js";
import { addDiskOptions, requireTable, warnProblems, withDisk } from "./open-table.js";
import { type ChangeOptions, runPlan } from "./run-plan.js";

interface AddOptions extends ChangeOptions {
  readonly number?: number;
  readonly start?: number;
  readonly size?: number | "all";
  readonly type?: string;
  readonly name?: string;
  readonly uuid?: string;
  readonly attrs?: bigint;
  readonly bootable?: boolean;
  readonly logical?: boolean;
}

export default (command: Command): void => {
  addDiskOptions(command)
    .argument("<disk>", "image file or device")
    .option("--number <n>", "1 to 15 (default: the first free one)", parseNumber)
    .option("--start <size>", "where it begins (default: the first free place, on a mebibyte)", (text) =>
      parseSize(text, "start"),
    )
    .option("--size <size>", "20G, 2048s, or 100%FREE (default: to the end of the free space)", parsePartitionSize)
    .option("--type <type>", "alias, GUID, or MBR byte (default: linux)")
    .option("--name <name>", "GPT: up to 36 characters")
    .option("--uuid <uuid>", "GPT: identity of the partition (default: a new one)")
    .option(
      "--attrs <names>",
      "GPT: RequiredPartition NoBlockIOProtocol LegacyBIOSBootable GUID:48,63",
      parseAttributes,
    )
    .option("--bootable", "MBR: the active partition; GPT: legacy BIOS bootable")
    .option("--logical", "MBR: in the extended partition, which is made when there is none")
    .option("--dry-run", "print what would be written")
    .addHelpText(
      "after",
      `\nTypes: ${aliasList("gpt")}\n\nExamples:\n  xvd part add guest.dsk --size 512M --type efi\n  xvd part add guest.dsk --size 100%FREE --type linux --name root`,
    )
    .action((disk: string, options: AddOptions) =>
      withDisk(disk, { ...options, writable: !options.dryRun }, async (device) => {
        const table = await requireTable(device, options);
        warnProblems(disk, table);
        const { number, start, size, type, name, uuid, attrs: attributes, bootable, logical } = options;
        const request: AddRequest = { number, start, size, type, name, uuid, attributes, bootable, logical };
        await runPlan(disk, device, planAdd(table, request, randomBytes), options);
      }),
    );
};

export function parseNumber(text: string): number {
  if (!/^\d{1,4}$/.test(text))
    throw usageError(`Cannot read partition number ${JSON.stringify(text)}: allowed are 1 to 15`);
  return Number(text);
}

export function parsePartitionSize(text: string): number | "all" {
  return /^100%(FREE)?$/i.test(text) ? "all" : parseSize(text);
}
