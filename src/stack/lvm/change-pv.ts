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

export interface ChangedPv extends ChangeResult {
  /** It was already as it shall be. */
  readonly same: boolean;
}

/** Names of every physical volume on the devices. */
export async function allPvs({ paths }: LvmContext, { devices }: ChangeOptions): Promise<string[]> {
  const session = await openSession(devices, { paths });
  await session.close();
  const { groups, free } = session.scan;
  const members = groups.flatMap((found) => [...found.members.values()].filter((pv) => pv !== null));
  return [...members, ...free].map(({ name }) => name);
}

export async function changePv(
  context: LvmContext,
  disk: string,
  request: ChangePv,
  options: ChangeOptions,
): Promise<ChangedPv> {
  const device = canonicalName(disk);
  // Which group to lock is known only after a look; under the lock it is looked for again.
  const before = await openSession(options.devices, { paths: context.paths });
  await before.close();
  const owner = groupOf(before.scan, device)?.group.name;
  return withLockedSession(context, owner === undefined ? [ORPHANS] : [owner, ORPHANS], options, async ({ scan }) => {
    const found = groupOf(scan, device);
    const pv = found ? [...found.members.values()].find((member) => member?.name === device) : freePv(scan, device);
    if (!pv) throw new DiskError("NOT_FOUND", `Failed to find physical volume "${disk}".`);
    const { newId: renew = false, metadataIgnore, ...rest } = request;
    const id = renew ? newId(context.random) : pv.label.id;
    try {
      const result = found
        ? await changeMember(context, found, pv, { ...rest, id }, metadataIgnore, disk, options)
        : await changeFree(pv, { ...rest, id }, metadataIgnore, disk, options);
      if (renew && !options.dryRun) keepRegistered(context, device, id);
      return { steps: result.steps, diff: result.diff, same: false };
    } catch (error) {
      if (!(error instanceof DiskError) || error.details.same !== true) throw error;
      return { steps: [error.message, `Physical volume ${disk} not changed`], diff: [], same: true };
    }
  });
}

function changeMember(
  context: LvmContext,
  found: FoundGroup,
  pv: FoundPv,
  request: ChangePvRequest & { id: string },
  metadataIgnore: boolean | undefined,
  disk: string,
  options: ChangeOptions,
): Promise<ChangeResult> {
  requireWhole(found);
  requireChangeable(found.group);
  const [name] = [...found.members].find(([, member]) => member === pv)!;
  const old = found.group.physicalVolumes.find((other) => other.name === name)!;
  const change = {
    ...planChangePv(found.group, name, request, disk),
    renamed: new Map([[old.id, request.id]]),
    reviseAreas: (other: FoundPv) => (other === pv ? withIgnored(pv, metadataIgnore) : other),
  };
  return applyChange(context, found, change, options);
}

/** A text is kept as "to be emptied" where an area goes out of use; an area that comes into use begins anew. */
function withIgnored(pv: FoundPv, ignored: boolean | undefined): FoundPv {
  if (ignored === undefined) return pv;
  return { ...pv, areas: pv.areas.map((area) => ({ ...area, ignored })) };
}

async function changeFree(
  { device, label, areas }: FoundPv,
  { id, allocatable, addTags = [], deleteTags = [] }: ChangePvRequest & { id: string },
  metadataIgnore: boolean | undefined,
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
  // One sector: the old label or the new one.
  await device.write(label.sector * SECTOR, encodeLabel({ ...label, id }));
  await device.flush();
  return { steps, diff: [] };
}

function keepRegistered({ paths }: LvmContext, name: string, id: string): void {
  if (readDevices(paths.home).some((device) => device.name === name))
    addDevices(paths.home, [{ name, pvid: parseId(id) }]);
}
