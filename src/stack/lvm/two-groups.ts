/**
 * Changes that move physical volumes between two groups (vgsplit, vgmerge). Each is several writes; what a cut leaves after each:
 *
 *   split   1  what goes as a group of its own, exported     the old group: an exported one yields (lvm/scan.ts)
 *           2  the old group without it                      from its first header on: both, the new one still exported
 *           3  the new group without that mark; or, into a   both
 *              group that is there: that group with it
 *   merge   1  the group that ends, exported                 both; 'vgimport' takes the mark away
 *           2  the other one, on the volumes of both         from its first header on: the merged one
 *
 * LVM2 splits in the same order. What is changed is archived before, and all is planned before the first write.
 */
import { exported } from "../../lvm/changes/change-group.js";
import { exclusive, neededLocks } from "../../lvm/changes/endangered.js";
import { planMergeGroups } from "../../lvm/changes/merge-group.js";
import { requireChangeable } from "../../lvm/changes/plan.js";
import { planSplitGroup, type SplitGroupRequest } from "../../lvm/changes/split-group.js";
import { newId } from "../../lvm/id.js";
import { type FoundGroup, type FoundPv, findGroup, type Scan, scanDevices } from "../../lvm/scan.js";
import { removeBackup } from "./archive.js";
import {
  applyChange,
  type ChangeOptions,
  type ChangeResult,
  type LvmContext,
  requireWhole,
  withLockedSession,
  withVolumesLocked,
} from "./change.js";
import type { Session } from "./session.js";

/** `choose` tells which physical volumes go. */
export function splitGroup(
  context: LvmContext,
  name: string,
  target: string,
  options: ChangeOptions,
  choose: (found: FoundGroup) => Pick<SplitGroupRequest, "pvs" | "volume">,
): Promise<ChangeResult> {
  return withLockedSession(context, [name, target], options, async (session) => {
    const found = changeable(session.scan, name);
    const exists = session.scan.groups.some(({ group }) => group.name === target);
    const into = exists ? changeable(session.scan, target) : null;
    const id = newId(context.random);
    const plan = planSplitGroup(found.group, { ...choose(found), name: target, id, into: into?.group ?? null });
    const going = present(found).filter(({ label }) => plan.part.physicalVolumes.some((pv) => pv.id === label.id));
    const dry = { ...options, dryRun: true };
    const part = { group: exported(plan.part, true), added: going, steps: [] };
    const rest = { group: plan.from, steps: plan.steps, moved: true };
    const foreseen = [await applyChange(context, found, rest, dry), await applyChange(context, null, part, dry)];
    if (into) foreseen.push(await applyChange(context, into, { group: plan.into, added: going, steps: [] }, dry));
    const result = { steps: plan.steps, diff: foreseen.flatMap(({ diff }) => diff) };
    if (options.dryRun) return result;
    await withVolumesLocked(context, found.group, neededLocks(found.group, plan.from), async () => {
      await applyChange(context, null, part, into ? { ...options, autobackup: false } : options);
      await applyChange(context, await again(session, name), rest, options);
      const made = await again(session, plan.part.name);
      if (into) {
        const joined = { group: plan.into, added: present(made), steps: [] };
        await applyChange(context, await again(session, target), joined, options);
      } else {
        const unmarked = { group: exported(made.group, false), steps: [] };
        await applyChange(context, made, unmarked, { ...options, autobackup: false });
      }
    });
    return result;
  });
}

export function mergeGroups(
  context: LvmContext,
  target: string,
  source: string,
  options: ChangeOptions,
): Promise<ChangeResult> {
  return withLockedSession(context, [target, source], options, async (session) => {
    const [into, from] = [changeable(session.scan, target), changeable(session.scan, source)];
    const { group, steps } = planMergeGroups(into.group, from.group, () => newId(context.random));
    const joined = (found: FoundGroup) => ({ group, steps, added: present(found) });
    const foreseen = await applyChange(context, into, joined(from), { ...options, dryRun: true });
    if (options.dryRun) return foreseen;
    await withVolumesLocked(context, from.group, exclusive(from.group.logicalVolumes), async () => {
      await applyChange(context, from, { group: exported(from.group, true), steps: [] }, options);
      const ending = await again(session, source);
      await applyChange(context, await again(session, target), joined(ending), options);
    });
    if (options.autobackup !== false) removeBackup(context.paths.home, source);
    return foreseen;
  });
}

/** Looks at the devices again: the next text goes behind the one before. */
async function again({ candidates }: Session, name: string): Promise<FoundGroup> {
  return findGroup(await scanDevices(candidates), name);
}

function changeable(scan: Scan, name: string): FoundGroup {
  const found = findGroup(scan, name);
  requireWhole(found);
  requireChangeable(found.group);
  return found;
}

function present({ members }: FoundGroup): FoundPv[] {
  return [...members.values()].filter((pv) => pv !== null);
}
