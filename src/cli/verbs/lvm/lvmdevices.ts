/** `xvd lvmdevices`: the disks on which groups are looked for. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import { printJson, printLines } from "../../print.js";
import { collectList, lvmContext } from "./options.js";

interface Flags {
  readonly adddev?: string[];
  readonly deldev?: string[];
  readonly json?: boolean;
}

export default function define(command: Command): void {
  command
    .option("--adddev <disk>", "register a disk", collectList)
    .option("--deldev <disk>", "forget a disk", collectList)
    .action(async ({ adddev = [], deldev = [], json }: Flags) => {
      const { addDevices, canonicalName, readDevices, removeDevices } = await import("../../../stack/lvm/devices.js");
      const context = lvmContext("lvmdevices");
      const { home } = context.paths;
      if (deldev.length > 0 && removeDevices(home, deldev.map(canonicalName)) === 0)
        throw new DiskError("NOT_FOUND", `Cannot forget ${deldev.join(" ")}: no such device is registered`);
      for (const disk of adddev) addDevices(home, [{ name: canonicalName(disk), pvid: await pvidOf(disk, context) }]);
      if (adddev.length + deldev.length > 0 && !json) return;
      const devices = readDevices(home);
      if (json) printJson({ devices });
      else
        printLines(
          devices.map(
            ({ name, pvid }) => `  Device ${name} IDTYPE=devname IDNAME=${name} DEVNAME=${name} PVID=${pvid ?? "none"}`,
          ),
        );
    });
}

async function pvidOf(disk: string, context: ReturnType<typeof lvmContext>): Promise<string | null> {
  const { openSession } = await import("../../../stack/lvm/open-session.js");
  const { canonicalName } = await import("../../../stack/lvm/devices.js");
  const { parseId } = await import("../../../lvm/id.js");
  const session = await openSession([disk], { paths: context.paths });
  await session.close();
  if (session.candidates.length === 0) throw new DiskError("NOT_FOUND", `Cannot use ${disk}: device not found`);
  const { scan } = session;
  const all = [...scan.free, ...scan.groups.flatMap(({ members, outdated }) => [...members.values(), ...outdated])];
  const found = all.find((pv) => pv?.name === canonicalName(disk));
  return found ? parseId(found.label.id) : null;
}
