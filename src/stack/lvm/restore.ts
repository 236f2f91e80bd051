/** A group put back as a backup says: the undo of every change, as long as its extents are not used for something else. */
import { DiskError } from "../../errors.js";
import type { VolumeGroup } from "../../lvm/metadata.js";
import type { FoundGroup, FoundPv, Scan } from "../../lvm/scan.js";
import type { GroupChange } from "./change.js";

export interface RestoreTarget {
  /** The group as it is now; null when it is gone. */
  readonly found: FoundGroup | null;
  readonly change: GroupChange;
}

/** Pure. `name` is the group's present name, or that in the backup. */
export function planRestore(scan: Scan, backup: VolumeGroup, name: string): RestoreTarget {
  const found = scan.groups.find(({ group }) => group.id === backup.id) ?? null;
  const refuse = (why: string) =>
    new DiskError("DENIED", `Cannot restore volume group ${name}: ${why}`, { details: { group: name } });
  const clash = scan.groups.find((other) => other.group.name === backup.name && other !== found);
  if (clash) throw refuse(`another volume group has the name ${backup.name}`);
  const unknown = backup.logicalVolumes.flatMap(({ segments }) => segments).find(({ type }) => type.startsWith("thin"));
  if (unknown)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot restore volume group ${name}: it has thin volumes, whose mappings this version does not keep`,
      {
        details: { segmentType: unknown.type },
      },
    );
  const added: FoundPv[] = [];
  for (const { id, device } of backup.physicalVolumes) {
    if (found && [...found.members.values()].some((pv) => pv?.label.id === id)) continue;
    const free = [...scan.free, ...(found?.outdated ?? [])].find((pv) => pv.label.id === id);
    if (!free) throw refuse(`physical volume ${id} (${device}) is missing or in another group`);
    added.push(free);
  }
  const seqno = Math.max(found?.group.seqno ?? 0, backup.seqno);
  return { found, change: { group: { ...backup, seqno }, added, steps: [`Restored volume group ${backup.name}.`] } };
}
