/** A physical volume's properties changed: in its group's text, in its label, in its metadata areas. */
import { DiskError } from "../../errors.js";
import { type ChangePvRequest, planChangePv } from "../../lvm/changes/change-pv.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { newId, parseId } from "../../lvm/id.js";
import { encodeLabel } from "../../lvm/label.js";
import { SECTOR } from "../../lvm/layout.js";
import { planHeader } from "../../lvm/metadata-area.js";
import type { FoundGroup, FoundPv } from "../../lvm/scan.js";
import {
  applyChange,
  type ChangeOptions,
  type ChangeResult,
  type LvmContext,
  requireWhole,
  withLockedSession,
} from "./change.js";
import { addDevices, canonicalName, readDevices } from "./devices.js";
import { ORPHANS } from "./locks.js";
import { openSession } from "./open-session.js";
import { freePv, groupOf } from "./pvs.js";

export interface ChangePv extends Omit<ChangePvRequest, "id"> {
  readonly newId?: boolean;
  /** Metadata areas are left unused. */
  readonly metadataIgnore?: boolean;
}

export interface ChangedPvs extends ChangeResult {
  /** Disks that were already as they shall be. */
  readonly same: readonly string[];
}

/** Names of every physical volume on the devices. */
export async function allPvs({ paths }: LvmContext, { devices }: ChangeOptions): Promise<string[]> {
  const session = await openSession(devices, { paths });
  await session.close();
  const { groups, free } = session.scan;
  const members = groups.flatMap((found) => [...found.members.values()].filter((pv) => pv !== null));
  return [...members, ...free].map(({ name }) => name);
}

/** The volumes of one group are one change, which one undo takes back. */
export async function changePvs(
  context: LvmContext,
  disks: readonly string[],
  request: ChangePv,
  options: ChangeOptions,
): Promise<ChangedPvs> {
  // Which groups to lock is known only after a look; under the lock they are looked for again.
  const before = await openSession(options.devices, { paths: context.paths });
  await before.close();
  const owners = disks.flatMap((disk) => groupOf(before.scan, canonicalName(disk))?.group.name ?? []);
  return withLockedSession(context, [...owners, ORPHANS], options, async ({ scan }) => {
    const chosen = new Map(disks.map((disk) => [canonicalName(disk), disk]));
    const results: ChangedPvs[] = [];
    for (const found of scan.groups) {
      const changes = [...found.members].flatMap(([name, pv]) => {
        const disk = pv ? chosen.get(pv.name) : undefined;
        if (!pv || disk === undefined) return [];
        chosen.delete(pv.name);
        return [{ name, pv, disk }];
      });
      if (changes.length > 0) results.push(await changeMembers(context, found, changes, request, options));
    }
    for (const [name, disk] of chosen) {
      const pv = freePv(scan, name);
      if (!pv) throw new DiskError("NOT_FOUND", `Failed to find physical volume "${disk}".`);
      results.push({ ...(await changeFree(context, pv, request, disk, options)), same: [] });
    }
    return {
      steps: results.flatMap(({ steps }) => steps),
      diff: results.flatMap(({ diff }) => diff),
      same: results.flatMap(({ same }) => same),
    };
  });
}

interface MemberChange {
  readonly name: string;
  readonly pv: FoundPv;
  readonly disk: string;
}

async function changeMembers(
  context: LvmContext,
  found: FoundGroup,
  changes: readonly MemberChange[],
  { newId: renew = false, metadataIgnore, ...request }: ChangePv,
  options: ChangeOptions,
): Promise<ChangedPvs> {
  requireWhole(found);
  requireChangeable(found.group);
  let { group } = found;
  const steps: string[] = [];
  const same: string[] = [];
  const renamed = new Map<string, string>();
  for (const { name, disk } of changes) {
    const old = group.physicalVolumes.find((pv) => pv.name === name)!;
    const id = renew ? newId(context.random) : old.id;
    try {
      const plan = planChangePv(group, name, { ...request, id }, disk);
      group = plan.group;
      renamed.set(old.id, id);
      steps.push(...plan.steps);
    } catch (error) {
      if (!(error instanceof DiskError) || error.details.same !== true) throw error;
      steps.push(error.message, `Physical volume ${disk} not changed`);
      same.push(disk);
    }
  }
  const ours = new Set(changes.map(({ pv }) => pv));
  const reviseAreas = (pv: FoundPv) => (ours.has(pv) ? withIgnored(pv, metadataIgnore) : pv);
  const unchanged = same.length === changes.length;
  const { diff } = await applyChange(context, found, { group, steps, renamed, reviseAreas, unchanged }, options);
  if (renew && !options.dryRun)
    for (const { pv, name } of changes)
      keepRegistered(context, pv.name, group.physicalVolumes.find((now) => now.name === name)!.id);
  return { steps, diff, same };
}

/** A text is kept as "to be emptied" where an area goes out of use; an area that comes into use begins anew. */
function withIgnored(pv: FoundPv, ignored: boolean | undefined): FoundPv {
  if (ignored === undefined) return pv;
  return { ...pv, areas: pv.areas.map((area) => ({ ...area, ignored })) };
}

async function changeFree(
  context: LvmContext,
  { name, device, label, areas }: FoundPv,
  { newId: renew, metadataIgnore, allocatable, addTags = [], deleteTags = [] }: ChangePv,
  disk: string,
  { dryRun = false }: ChangeOptions,
): Promise<ChangeResult> {
  if (allocatable !== undefined)
    throw new DiskError("DENIED", `Allocatability not supported by orphan metadata format PV ${disk}`);
  if (addTags.length + deleteTags.length > 0)
    throw new DiskError("DENIED", `Cannot change tag on PV ${disk} not in volume group`);
  const steps = [`Physical volume "${disk}" changed`];
  if (dryRun) return { steps, diff: [] };
  if (metadataIgnore !== undefined)
    for (const area of areas) {
      const { offset, data } = planHeader({ ...area, ignored: metadataIgnore }, null, null);
      await device.write(offset, data);
    }
  const id = renew ? newId(context.random) : label.id;
  await device.write(label.sector * SECTOR, encodeLabel({ ...label, id })); // one sector: the old label or the new one
  await device.flush();
  keepRegistered(context, name, id);
  return { steps, diff: [] };
}

function keepRegistered({ paths }: LvmContext, name: string, id: string): void {
  if (readDevices(paths.home).some((device) => device.name === name))
    addDevices(paths.home, [{ name, pvid: parseId(id) }]);
}
