/** `xvd pvchange`: whether a physical volume takes new extents and metadata, its tags, its identity. */
import type { Command } from "commander";
import { parseTag } from "../../../lvm/names.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  collect,
  lvmContext,
  parseYesNo,
  printChange,
  usage,
} from "./options.js";

interface Flags extends CommonFlags {
  readonly allocatable?: boolean;
  readonly addtag?: string[];
  readonly deltag?: string[];
  readonly uuid?: boolean;
  readonly metadataignore?: boolean;
  readonly all?: boolean;
}

export default function define(command: Command): void {
  addChanging(command.argument("[disks...]", "physical volumes"))
    .option("-x, --allocatable <y|n>", "whether new extents may be taken from it", parseYesNo)
    .option("--addtag <tag>", "add a tag", collect)
    .option("--deltag <tag>", "take a tag away", collect)
    .option("-u, --uuid", "a new identity")
    .option("--metadataignore <y|n>", "leave its metadata areas unused", parseYesNo)
    .option("-a, --all", "all physical volumes")
    .action((disks: string[], flags: Flags) => run(disks, flags));
}

async function run(disks: string[], flags: Flags): Promise<void> {
  const { allocatable, addtag = [], deltag = [], uuid = false, metadataignore } = flags;
  if ((disks.length === 0) !== (flags.all ?? false)) throw usage("Please give exactly one option of -a or disks");
  if (allocatable === undefined && !uuid && metadataignore === undefined && addtag.length + deltag.length === 0)
    throw usage("Need 1 or more of -x, -u, --addtag, --deltag or --metadataignore");
  const { allPvs, changePvs } = await import("../../../stack/lvm/change-pv.js");
  const context = lvmContext("pvchange");
  const options = changeOptions(context, flags);
  const request = {
    ...(allocatable === undefined ? {} : { allocatable }),
    ...(metadataignore === undefined ? {} : { metadataIgnore: metadataignore }),
    addTags: addtag.map(parseTag),
    deleteTags: deltag.map(parseTag),
    newId: uuid,
  };
  const chosen = flags.all ? await allPvs(context, options) : disks;
  const { steps, diff, same } = await changePvs(context, chosen, request, options);
  const told = (count: number, what: string) => `${count} physical volume${count === 1 ? "" : "s"} ${what}`;
  const last = `${told(chosen.length - same.length, "changed")} / ${told(same.length, "not changed")}`;
  printChange(flags, { steps: [...steps, last], diff });
}
