/**
 * Copies of a group's physical volumes become a group of their own: new ids for it and for them, another name; the volumes keep theirs.
 *
 * The new text goes first, then the labels. A cut between them leaves a text that names ids which not every label has yet; the
 * same command given again finds each volume by the place that the text says and finishes. Only the devices given are looked at.
 */
import { DiskError } from "../../errors.js";
import { exported } from "../../lvm/changes/change-group.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { newId, type Random } from "../../lvm/id.js";
import type { VolumeGroup } from "../../lvm/metadata.js";
import { checkGroupName } from "../../lvm/names.js";
import type { FoundGroup, FoundPv, Scan } from "../../lvm/scan.js";
import { applyChange, type ChangeOptions, type ChangeResult, type GroupChange, type LvmContext } from "./change.js";

export interface ImportCloneRequest {
  /** Of the new group; default: its old name with a number behind. */
  readonly name: string | null;
  /** Names that are taken. */
  readonly taken: ReadonlySet<string>;
  /** Take an exported group too, and make it a usable one. */
  readonly import?: boolean;
  /** Also give the volumes new ids. */
  readonly newVolumeIds?: boolean;
}

export interface ImportedClone extends ChangeResult {
  readonly before: VolumeGroup;
  readonly after: VolumeGroup;
  readonly pvs: readonly FoundPv[];
}

/** `scan` is of the copies alone. */
export async function importClone(
  context: LvmContext,
  scan: Scan,
  request: ImportCloneRequest,
  options: ChangeOptions,
): Promise<ImportedClone> {
  const found = wholeGroup(scan);
  const change = planImportClone(found, request, context.random);
  const members = [...found.members.values()].filter((pv) => pv !== null);
  // As a new group: its ids are others, and the archive of the original's name is not the copy's.
  const result = await applyChange(context, null, { ...change, added: members }, options);
  return { steps: result.steps, diff: result.diff, before: found.group, after: change.group, pvs: members };
}

/** Pure. */
export function planImportClone(
  { group, members }: FoundGroup,
  { name, taken, import: isImport = false, newVolumeIds = false }: ImportCloneRequest,
  random: Random,
): GroupChange & { readonly group: VolumeGroup } {
  requireChangeable(isImport ? exported(group, false) : group);
  const renamed = new Map<string, string>();
  const physicalVolumes = group.physicalVolumes.map((pv) => {
    const id = newId(random);
    renamed.set(members.get(pv.name)!.label.id, id);
    return { ...pv, id };
  });
  const logicalVolumes = newVolumeIds
    ? group.logicalVolumes.map((volume) => ({ ...volume, id: newId(random) }))
    : group.logicalVolumes;
  const copy = {
    ...group,
    name: name ?? freeName(group.name, taken),
    id: newId(random),
    physicalVolumes,
    logicalVolumes,
  };
  checkGroupName(copy.name);
  if (taken.has(copy.name))
    throw new DiskError("DENIED", `A volume group called ${copy.name} already exists.`, { details: { exists: true } });
  return {
    group: isImport ? exported(copy, false) : copy,
    renamed,
    steps: [`Volume group "${copy.name}" (copy of "${group.name}") successfully imported`],
  };
}

function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 1; ; number++) if (!taken.has(`${name}${number}`)) return `${name}${number}`;
}

/** The one group that all of the copies make. */
function wholeGroup(scan: Scan): FoundGroup {
  const refuse = (why: string) => new DiskError("DENIED", `Cannot import these devices: ${why}`);
  const [first, ...others] = scan.groups.toSorted((a, b) => b.group.seqno - a.group.seqno);
  if (!first) throw new DiskError("NOT_FOUND", "Cannot import these devices: there is no volume group on them");
  const all = [...scan.free, ...scan.groups.flatMap(({ members, outdated }) => [...members.values(), ...outdated])];
  const members = new Map(
    first.group.physicalVolumes.map((pv) => [
      pv.name,
      first.members.get(pv.name) ?? all.find((other) => other?.name === pv.device) ?? null,
    ]),
  );
  const used = new Set(members.values());
  const second = others.find((other) => [...other.members.values()].some((pv) => pv && !used.has(pv)));
  if (second) throw refuse(`they belong to several groups, ${first.group.name} and ${second.group.name}`);
  const missing = first.group.physicalVolumes.filter((pv) => !members.get(pv.name));
  if (missing.length > 0)
    throw refuse(
      `VG ${first.group.name} is missing PV ${missing.map(({ id }) => id).join(" ")}, allowed all of its devices`,
    );
  if (scan.duplicates.length > 0) throw refuse("two of them are copies of the same physical volume");
  const stranger = scan.free.find((pv) => !used.has(pv));
  if (stranger) throw refuse(`${stranger.name} is in no volume group`);
  return { ...first, members };
}
