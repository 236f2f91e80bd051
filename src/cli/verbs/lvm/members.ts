/** Disks on their way into a group: physical volumes that are free, and disks that become some. */
import { DiskError } from "../../../errors.js";
import type { NewMember } from "../../../lvm/changes/group.js";
import { planPv } from "../../../lvm/create-pv.js";
import { newId } from "../../../lvm/id.js";
import type { FoundPv } from "../../../lvm/scan.js";
import type { LvmContext } from "../../../stack/lvm/change.js";
import { findCandidate, freePv, groupOf, type InitOptions, initPv } from "../../../stack/lvm/pvs.js";
import type { Session } from "../../../stack/lvm/session.js";

export interface BroughtIn {
  readonly pvs: readonly FoundPv[];
  readonly members: readonly NewMember[];
  /** What was said about new physical volumes. */
  readonly steps: readonly string[];
}

/** `tryPlan` runs first, with labels that new volumes would have: what it refuses is refused before a disk is written. */
export async function bringIn(
  context: LvmContext,
  session: Session,
  group: string,
  disks: readonly string[],
  options: InitOptions,
  tryPlan: (members: readonly NewMember[]) => unknown,
): Promise<BroughtIn> {
  const found = disks.map((disk) => ({ disk, pv: findFree(session, group, disk) }));
  const expected = found.map(({ disk, pv }) => {
    const { name, device } = findCandidate(session, disk);
    return memberOf(pv ?? { name, device, label: planPv(device, { ...options, id: newId(context.random) }).label });
  });
  tryPlan(expected);
  const pvs: FoundPv[] = [];
  const steps: string[] = [];
  for (const { disk, pv } of found) {
    pvs.push(pv ?? (await initPv(context, session, disk, options)));
    if (!pv) steps.push(`Physical volume "${disk}" successfully created.`);
  }
  return { pvs: options.dryRun ? pvs.map(withAreas) : pvs, members: pvs.map(memberOf), steps };
}

function memberOf({ name, device, label }: Pick<FoundPv, "name" | "device" | "label">): NewMember {
  return { device: name, size: device.size, label };
}

/** In a dry run a new volume has no areas yet; the plan needs them. */
function withAreas(pv: FoundPv): FoundPv {
  if (pv.areas.length > 0 || pv.label.metadataAreas.length === 0) return pv;
  const area = { ignored: false, committed: null, header: null, problem: null, content: null };
  return { ...pv, areas: pv.label.metadataAreas.map((place) => ({ ...place, ...area })) };
}

/** Null for a disk that is no physical volume yet. Throws `DENIED` for one of another group. */
function findFree(session: Session, group: string, disk: string): FoundPv | null {
  const { name } = findCandidate(session, disk);
  const owner = groupOf(session.scan, name);
  if (owner)
    throw new DiskError(
      "DENIED",
      `Physical volume '${disk}' is already in volume group '${owner.group.name}'; unable to add it to volume group '${group}'`,
    );
  const copy = session.scan.duplicates.find(({ used, unused }) => used === name || unused.includes(name));
  if (copy)
    throw new DiskError(
      "DENIED",
      `Cannot use device ${disk} with duplicates: ${[copy.used, ...copy.unused].join(" ")} have one UUID`,
    );
  return freePv(session.scan, name) ?? null;
}
