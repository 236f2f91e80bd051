/** `xvd vgcreate`: a volume group from physical volumes, or from disks that become some. */
import type { Command } from "commander";
import type { AllocationPolicy } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import {
  addChanging,
  changeOptions,
  collect,
  countForce,
  lvmContext,
  parseCount,
  parseGroupName,
  parseMebibytes,
  parseYesNo,
  printChange,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { addPvOptions, initOptions, type PvFlags } from "./pvcreate.js";

interface Flags extends PvFlags {
  readonly physicalextentsize?: number;
  readonly maxlogicalvolumes?: number;
  readonly maxphysicalvolumes?: number;
  readonly alloc?: AllocationPolicy;
  readonly addtag?: string[];
  readonly setautoactivation?: boolean;
}

export default function define(command: Command): void {
  const force = countForce(command);
  addPolicy(
    addPvOptions(
      addChanging(
        command
          .argument("<vg>", "name of the new group")
          .argument("<disks...>", "physical volumes, or disks that become some"),
      ),
    ),
  )
    .option("-s, --physicalextentsize <size>", "of each extent (default: 4m)", parseMebibytes)
    .option("-l, --maxlogicalvolumes <n>", "at most so many volumes (default: 0, no limit)", parseCount)
    .option("-p, --maxphysicalvolumes <n>", "at most so many physical volumes (default: 0, no limit)", parseCount)
    .option("--addtag <tag>", "add a tag", collect)
    .option("--setautoactivation <y|n>", "whether a kernel activates its volumes by itself", parseYesNo)
    .action((name: string, disks: string[], flags: Flags) => run(parseGroupName(name), disks, flags, force()));
}

async function run(name: string, disks: string[], flags: Flags, force: number): Promise<void> {
  const { DiskError } = await import("../../../errors.js");
  const { applyChange, withLockedSession } = await import("../../../stack/lvm/change.js");
  const { ORPHANS } = await import("../../../stack/lvm/locks.js");
  const { registerPvs } = await import("../../../stack/lvm/pvs.js");
  const { DEFAULT_EXTENT_SIZE, planCreateGroup } = await import("../../../lvm/changes/group.js");
  const { newId } = await import("../../../lvm/id.js");
  const { bringIn } = await import("./members.js");
  const context = lvmContext("vgcreate");
  const options = changeOptions(context, flags, disks);
  const result = await withLockedSession(context, [name, ORPHANS], options, async (session) => {
    if (session.scan.groups.some(({ group }) => group.name === name))
      throw new DiskError("DENIED", `A volume group called ${name} already exists.`, { details: { exists: true } });
    const extentSize = flags.physicalextentsize ?? DEFAULT_EXTENT_SIZE;
    const request = {
      name,
      id: newId(context.random),
      extentSize,
      maxLv: flags.maxlogicalvolumes ?? 0,
      maxPv: flags.maxphysicalvolumes ?? 0,
      allocation: flags.alloc ?? "normal",
      tags: (flags.addtag ?? []).map(parseTag),
      autoactivation: flags.setautoactivation ?? true,
    } as const;
    const added = await bringIn(context, session, name, disks, initOptions(flags, force), (members) =>
      planCreateGroup({ ...request, members }),
    );
    const change = planCreateGroup({ ...request, members: added.members });
    const done = await applyChange(
      context,
      null,
      { ...change, added: added.pvs, steps: [...added.steps, ...change.steps] },
      options,
    );
    if (!options.dryRun) registerPvs(context, added.pvs);
    return done;
  });
  printChange(flags, result);
}
