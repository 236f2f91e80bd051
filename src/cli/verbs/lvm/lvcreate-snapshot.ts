/** `xvd lvcreate -s -L SIZE VG/LV`: an old-style snapshot of a volume. */
import { createRequest, type LvcreateFlags, namesOf } from "./lvcreate-request.js";
import { changeOptions, lvmContext, parseVolumeName, printChange, usage } from "./options.js";
import { parsePvArguments } from "./pv-arguments.js";
import { givenSize } from "./sizes.js";

export async function createSnapshot(target: string, disks: readonly string[], flags: LvcreateFlags): Promise<void> {
  const size = givenSize(flags);
  if (!size) throw usage("Please specify either size (-L) or extents (-l) with snapshots");
  const { group, volume: origin } = parseVolumeName(target);
  const { volume: name } = namesOf(group, flags);
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planCreateSnapshot } = await import("../../../lvm/changes/create-snapshot.js");
  const { withStore } = await import("../../../stack/lvm/snapshots.js");
  const { newId } = await import("../../../lvm/id.js");
  const context = lvmContext("lvcreate");
  const result = await changeGroup(context, group, changeOptions(context, flags), (found) => {
    const within = parsePvArguments(found, disks);
    return withStore(
      planCreateSnapshot(found.group, {
        ...createRequest(context, flags),
        origin,
        id: newId(context.random),
        jointId: newId(context.random),
        size,
        ...(name === undefined ? {} : { name }),
        ...(flags.chunksize === undefined ? {} : { chunkSize: flags.chunksize }),
        ...(within ? { within } : {}),
      }),
    );
  });
  printChange(flags, result);
}
