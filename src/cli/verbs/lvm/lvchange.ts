/** `xvd lvchange`: permissions, tags and policies of volumes. */
import { type Command, Option } from "commander";
import { planChangeVolume } from "../../../lvm/changes/volume.js";
import { type AllocationPolicy, isVisible, type VolumeGroup } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import { parsePermission } from "./lvcreate.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  groupTargets,
  joinResults,
  lvmContext,
  parseYesNo,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";

interface Flags extends CommonFlags {
  readonly permission?: "r" | "rw";
  readonly addtag?: string[];
  readonly deltag?: string[];
  readonly alloc?: AllocationPolicy;
  readonly contiguous?: boolean;
  readonly setautoactivation?: boolean;
  readonly setactivationskip?: boolean;
  readonly activate?: string;
  readonly syncaction?: "check" | "repair";
}

export default function define(command: Command): void {
  addPolicy(addChanging(command.argument("<names...>", "VG/LV, or VG for all of its volumes")))
    .option("-p, --permission <rw|r>", "writable or read-only", parsePermission)
    .option("--addtag <tag>", "add a tag", collect)
    .option("--deltag <tag>", "take a tag away", collect)
    .option("-C, --contiguous <y|n>", "new extents in one piece", parseYesNo)
    .option("--setautoactivation <y|n>", "whether a kernel activates it by itself", parseYesNo)
    .option("-k, --setactivationskip <y|n>", "whether a kernel leaves it out", parseYesNo)
    .option("-a, --activate <y|n>", "accepted: volumes are served when they are opened")
    .addOption(new Option("--syncaction <action>", "compare the legs of RAID volumes").choices(["check", "repair"]))
    .action((names: string[], flags: Flags) => run(names, flags));
}

async function run(names: string[], flags: Flags): Promise<void> {
  if (flags.syncaction) return (await import("./lvchange-sync.js")).scrubLegs(names, flags.syncaction, flags);
  const request = {
    ...(flags.permission ? { permission: flags.permission } : {}),
    addTags: (flags.addtag ?? []).map(parseTag),
    deleteTags: (flags.deltag ?? []).map(parseTag),
    ...(flags.contiguous === undefined
      ? {}
      : { allocation: flags.contiguous ? ("contiguous" as const) : ("inherit" as const) }),
    ...(flags.alloc ? { allocation: flags.alloc } : {}),
    ...(flags.setautoactivation === undefined ? {} : { autoactivation: flags.setautoactivation }),
    ...(flags.setactivationskip === undefined ? {} : { skipActivation: flags.setactivationskip }),
  };
  const changes = Object.values(request).some((value) => !Array.isArray(value) || value.length > 0);
  if (!changes && flags.activate !== undefined) return;
  if (!changes) throw usage("Need 1 or more of -p, --addtag, --deltag, --alloc, -C, --setautoactivation or -k");
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const context = lvmContext("lvchange");
  const results = [];
  for (const [group, volumes] of groupTargets(names))
    results.push(
      await changeGroup(context, group, { ...changeOptions(context, flags), allowMissing: true }, (found) => {
        let changed: VolumeGroup = found.group;
        const steps: string[] = [];
        for (const name of volumes ?? found.group.logicalVolumes.filter(isVisible).map((volume) => volume.name)) {
          const plan = planChangeVolume(changed, name, request);
          changed = plan.group;
          steps.push(...plan.steps);
        }
        return { group: changed, steps };
      }),
    );
  printChange(flags, joinResults(results));
}
