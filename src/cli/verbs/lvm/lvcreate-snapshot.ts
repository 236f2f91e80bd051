/** `xvd lvcreate -s -L SIZE VG/LV`: an old-style snapshot of a volume. */
import { changeBesideGuests, clusterIds, type LiveRequest } from "./live.js";
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
  const request = {
    ...createRequest(context, flags),
    origin,
    id: newId(context.random),
    jointId: newId(context.random),
    size,
    ...(name === undefined ? {} : { name }),
    ...(flags.chunksize === undefined ? {} : { chunkSize: flags.chunksize }),
  };
  const options = changeOptions(context, flags);
  let asked: LiveRequest | null = null;
  const result = await changeBesideGuests(
    context,
    flags,
    group,
    () => asked,
    () =>
      changeGroup(context, group, options, (found) => {
        const within = parsePvArguments(found, disks);
        const wanted = { ...request, ...(within ? { within } : {}) };
        asked = {
          change: { kind: "create-snapshot", request: wanted },
          volumes: clusterIds(found.group, origin),
        };
        return withStore(planCreateSnapshot(found.group, wanted));
      }),
  );
  printChange(flags, result);
}
