/** `xvd lvconvert -m|--type|--repair|--splitmirrors`: legs added, removed, replaced and split off. */
import { changeGroup } from "../../../stack/lvm/change.js";
import { type ConvertLegsRequest, planConvertLegs } from "../../../stack/lvm/convert-legs.js";
import { syncLegs } from "../../../stack/lvm/raid-use.js";
import type { LvconvertFlags } from "./lvconvert-request.js";
import { changeOptions, lvmContext, parseVolumeName, printChange, usage } from "./options.js";
import { parsePvArguments } from "./pv-arguments.js";

export async function convertLegs(names: readonly string[], flags: LvconvertFlags): Promise<void> {
  const [target = "", ...disks] = names;
  const name = parseVolumeName(target);
  if (flags.splitmirrors !== undefined && flags.splitmirrors !== 1)
    throw usage("Cannot split off more than one image: allowed --splitmirrors 1");
  if (flags.splitmirrors !== undefined && flags.name === undefined)
    throw usage("Please name the new logical volume using '--name'");
  const context = lvmContext("lvconvert");
  const options = changeOptions(context, flags);
  const result = await changeGroup(
    context,
    name.group,
    { ...options, allowMissing: flags.repair ?? false },
    (found) => {
      const within = parsePvArguments(found, disks);
      return planConvertLegs(context, found, {
        ...requestOf(flags),
        volume: name.volume,
        ...(within ? { within } : {}),
      });
    },
  );
  // The group is free for others meanwhile, and a volume that is not yet whole can be used: the next opening goes on.
  if (!flags.dryRun && !flags.background) await syncLegs(context, options, name);
  printChange(flags, result);
}

function requestOf(flags: LvconvertFlags): Omit<ConvertLegsRequest, "volume"> {
  return {
    repair: flags.repair ?? false,
    ...(flags.mirrors === undefined ? {} : { mirrors: flags.mirrors }),
    ...(flags.type === undefined ? {} : { type: flags.type }),
    ...(flags.name === undefined ? {} : { splitTo: flags.name }),
    ...(flags.mirrorlog === undefined ? {} : { mirrorLog: flags.mirrorlog }),
    ...(flags.regionsize === undefined ? {} : { regionSize: flags.regionsize }),
  };
}
