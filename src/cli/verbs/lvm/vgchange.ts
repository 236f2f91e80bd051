/** `xvd vgchange`: limits, policies, tags, extent size and identity of groups. */
import type { Command } from "commander";
import { type ChangeGroupRequest, planChangeGroup } from "../../../lvm/changes/change-group.js";
import type { AllocationPolicy } from "../../../lvm/metadata.js";
import { parseTag } from "../../../lvm/names.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  joinResults,
  lvmContext,
  parseCount,
  parseGroupName,
  parseMebibytes,
  parseYesNo,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";

interface Flags extends CommonFlags {
  readonly logicalvolume?: number;
  readonly maxphysicalvolumes?: number;
  readonly physicalextentsize?: number;
  readonly resizeable?: boolean;
  readonly uuid?: boolean;
  readonly alloc?: AllocationPolicy;
  readonly addtag?: string[];
  readonly deltag?: string[];
  readonly setautoactivation?: boolean;
  readonly activate?: string;
}

export default function define(command: Command): void {
  addPolicy(addChanging(command.argument("<vgs...>", "groups")))
    .option("-l, --logicalvolume <n>", "at most so many volumes, 0: no limit", parseCount)
    .option("-p, --maxphysicalvolumes <n>", "at most so many physical volumes, 0: no limit", parseCount)
    .option("-s, --physicalextentsize <size>", "of each extent; everything must come out even", parseMebibytes)
    .option("-x, --resizeable <y|n>", "whether physical volumes come and go", parseYesNo)
    .option("-u, --uuid", "a new identity")
    .option("--addtag <tag>", "add a tag", collect)
    .option("--deltag <tag>", "take a tag away", collect)
    .option("--setautoactivation <y|n>", "whether a kernel activates its volumes by itself", parseYesNo)
    .option("-a, --activate <y|n>", "accepted: volumes are served when they are opened")
    .action((names: string[], flags: Flags) => run(names, flags));
}

async function run(names: string[], flags: Flags): Promise<void> {
  const { newId } = await import("../../../lvm/id.js");
  const context = lvmContext("vgchange");
  const given = {
    maxLv: flags.logicalvolume,
    maxPv: flags.maxphysicalvolumes,
    extentSize: flags.physicalextentsize,
    resizeable: flags.resizeable,
    allocation: flags.alloc,
    autoactivation: flags.setautoactivation,
    addTags: flags.addtag?.map(parseTag),
    deleteTags: flags.deltag?.map(parseTag),
  };
  const request = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as ChangeGroupRequest;
  if (Object.keys(request).length === 0 && !flags.uuid) {
    if (flags.activate !== undefined) return;
    throw usage("Need 1 or more of -l, -p, -s, -x, -u, --addtag, --deltag, --alloc or --setautoactivation");
  }
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const results = [];
  for (const name of names.map(parseGroupName))
    results.push(
      await changeGroup(context, name, changeOptions(context, flags), ({ group }) => ({
        ...planChangeGroup(group, { ...request, ...(flags.uuid ? { id: newId(context.random) } : {}) }),
        // Its volumes are locked by its id, and opened by its extents.
        ...(flags.uuid || flags.physicalextentsize !== undefined ? { inUse: group.logicalVolumes } : {}),
      })),
    );
  printChange(flags, joinResults(results));
}
