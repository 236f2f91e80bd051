/** `xvd lvcreate --type raid…|mirror`: a new volume of legs. */
import { planCreateRaid } from "../../../lvm/changes/create-raid.js";
import { newId } from "../../../lvm/id.js";
import { changeGroup } from "../../../stack/lvm/change.js";
import { withWiping } from "../../../stack/lvm/volumes.js";
import { createRequest, type LvcreateFlags, namesOf } from "./lvcreate-request.js";
import { changeOptions, lvmContext, printChange, usage } from "./options.js";
import { parsePvArguments } from "./pv-arguments.js";
import { givenSize } from "./sizes.js";

export async function createRaid(target: string, disks: string[], flags: LvcreateFlags, type: string): Promise<void> {
  const size = givenSize(flags);
  if (!size) throw usage("Please specify either size (-L) or extents (-l)");
  const { group, volume } = namesOf(target, flags);
  const context = lvmContext("lvcreate");
  const result = await changeGroup(context, group, changeOptions(context, flags), (found) => {
    const within = parsePvArguments(found, disks);
    const plan = planCreateRaid(found.group, {
      ...createRequest(context, flags),
      id: newId(context.random),
      newId: () => newId(context.random),
      type,
      size,
      nosync: flags.nosync ?? false,
      ...(volume === undefined ? {} : { name: volume }),
      ...(flags.mirrors === undefined ? {} : { mirrors: flags.mirrors }),
      ...(flags.regionsize === undefined ? {} : { regionSize: flags.regionsize }),
      ...(flags.mirrorlog === undefined ? {} : { mirrorLog: flags.mirrorlog }),
      ...(within ? { within } : {}),
    });
    return withWiping(plan, { zero: flags.zero ?? true, wipe: flags.wipesignatures ?? flags.zero ?? true });
  });
  printChange(flags, result);
}
