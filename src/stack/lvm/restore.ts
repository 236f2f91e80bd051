/** A group put back as a backup says: the undo of every change, as long as its extents are not used for something else. */
import { DiskError } from "../../errors.js";
import { volumeTree } from "../../lvm/changes/dependents.js";
import { findVolume, numberField, type PhysicalVolume, textField, type VolumeGroup } from "../../lvm/metadata.js";
import type { FoundGroup, FoundPv, Scan } from "../../lvm/scan.js";
import type { GroupChange } from "./change.js";

export interface RestoreTarget {
  /** The group as it is now; null when it is gone. */
  readonly found: FoundGroup | null;
  readonly change: GroupChange;
}

/** Pure. `name` is the group's present name, or that in the backup; `force` also where thin volumes would not fit their pools. */
export function planRestore(scan: Scan, backup: VolumeGroup, name: string, force = false): RestoreTarget {
  const found = scan.groups.find(({ group }) => group.id === backup.id) ?? sameMembers(scan, backup);
  const refuse = (why: string) =>
    new DiskError("DENIED", `Cannot restore volume group ${name}: ${why}`, { details: { group: name } });
  const absorbed = scan.groups.filter((other) => other !== found && isPartOf(other.group, backup));
  const clash = scan.groups.find(
    (other) => other.group.name === backup.name && other !== found && !absorbed.includes(other),
  );
  if (clash) throw refuse(`another volume group has the name ${backup.name}`);
  if (!force && !isSameThin(found?.group ?? null, backup))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot restore volume group ${name}: its pools have changed since then, and what is mapped in them does not come back with the metadata; allowed with --force`,
      { details: { group: name } },
    );
  const free = [
    ...scan.free,
    ...(found?.outdated ?? []),
    ...absorbed.flatMap(({ members }) => [...members.values()].filter((pv) => pv !== null)),
  ];
  const added: FoundPv[] = [];
  const renamed = new Map<string, string>();
  const missing: string[] = [];
  for (const pv of backup.physicalVolumes) {
    if (found?.group.physicalVolumes.some(({ id }) => id === pv.id)) continue;
    const newcomer = free.find(({ label }) => label.id === pv.id);
    const old = newcomer ? null : renamedMember(found, backup, pv);
    const other = scan.groups.find(({ group }) => group.physicalVolumes.some(({ id }) => id === pv.id));
    if (old) renamed.set(old.id, pv.id);
    else if (newcomer) added.push(newcomer);
    else if (other)
      throw refuse(
        `physical volume ${pv.id} (${pv.device}) is in group ${other.group.name}, whose last change may have to be taken back first`,
      );
    else missing.push(pv.id);
  }
  const isThere = backup.physicalVolumes.some(({ id }) => !missing.includes(id));
  if (!isThere) throw refuse(`none of its physical volumes is there (${missing.join(" ")})`);
  const seqno = Math.max(backup.seqno, ...[found, ...absorbed].map((one) => one?.group.seqno ?? 0));
  const steps = [
    ...missing.map((id) => `WARNING: Couldn't find device with uuid ${id}.`),
    `Restored volume group ${backup.name}.`,
  ];
  return { found, change: { group: { ...backup, seqno }, added, renamed, steps } };
}

/** The group under another id, which vgchange has given it. */
function sameMembers({ groups }: Scan, backup: VolumeGroup): FoundGroup | null {
  const ids = new Set(backup.physicalVolumes.map(({ id }) => id));
  const same = ({ name, physicalVolumes }: VolumeGroup) =>
    name === backup.name && physicalVolumes.length === ids.size && physicalVolumes.every(({ id }) => ids.has(id));
  return groups.find(({ group }) => same(group)) ?? null;
}

/** What was split off the group since then, and has nothing that the backup does not have. */
function isPartOf({ physicalVolumes, logicalVolumes }: VolumeGroup, backup: VolumeGroup): boolean {
  const [pvs, lvs] = [backup.physicalVolumes, backup.logicalVolumes].map((all) => new Set(all.map(({ id }) => id)));
  return physicalVolumes.every(({ id }) => pvs!.has(id)) && logicalVolumes.every(({ id }) => lvs!.has(id));
}

/** The volume in the same place that has got another id since then. */
function renamedMember(found: FoundGroup | null, backup: VolumeGroup, pv: PhysicalVolume): PhysicalVolume | null {
  const now = found?.group.physicalVolumes.find(({ name }) => name === pv.name);
  const isSame = now && now.device === pv.device && now.peStart === pv.peStart && found?.members.get(now.name);
  return isSame && !backup.physicalVolumes.some(({ id }) => id === now.id) ? now : null;
}

/** Whether every pool is where and as it was, with the same devices in it: then their mappings fit the backup too. */
function isSameThin(now: VolumeGroup | null, backup: VolumeGroup): boolean {
  const [before, after] = [thinParts(backup), now ? thinParts(now) : []];
  return before.length === after.length && before.every((part, i) => part === after[i]);
}

function thinParts(group: VolumeGroup): string[] {
  const pools = new Map(
    group.logicalVolumes.flatMap((volume) =>
      volume.segments[0]?.type === "thin-pool" ? [[volume.name, volume] as const] : [],
    ),
  );
  const thin = group.logicalVolumes.flatMap(({ segments: [segment] }) => {
    if (segment?.type !== "thin") return [];
    const pool = pools.get(textField(segment, "thin_pool") ?? "");
    return [`${pool?.id} device ${numberField(segment, "device_id")}`];
  });
  const parts = [...pools.values()].flatMap((pool) => {
    const [segment] = pool.segments;
    const below = ["metadata", "pool"].flatMap((key) => volumeTree(group, textField(segment!, key) ?? ""));
    const places = below.map((part) => JSON.stringify(findVolume(group, part).segments));
    return [`${pool.id} transaction ${numberField(segment!, "transaction_id")}`, ...places];
  });
  return [...thin, ...parts].sort();
}
