/** `xvd lvremove`: volumes go away, their extents become free. `vgcfgrestore --last` takes it back. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import { planRemoveVolume } from "../../../lvm/changes/volume.js";
import { isVisible, type LogicalVolume, type VolumeGroup } from "../../../lvm/metadata.js";
import type { FoundGroup } from "../../../lvm/scan.js";
import { snapshotOf, snapshotsOn } from "../../../lvm/segments/snapshot/roles.js";
import { askYesNo } from "../../ask.js";
import { changeBesideGuests, clusterIds, type LiveRequest } from "./live.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  countForce,
  groupTargets,
  isDryRun,
  joinResults,
  lvmContext,
  printChange,
} from "./options.js";

export default function define(command: Command): void {
  const force = countForce(command);
  addChanging(command.argument("<names...>", "VG/LV, or VG for all of its volumes")).action(
    async (names: string[], flags: CommonFlags) => {
      const { changeGroup } = await import("../../../stack/lvm/change.js");
      const context = lvmContext("lvremove");
      const results = [];
      for (const [group, volumes] of groupTargets(names)) {
        let asked: LiveRequest | null = null;
        const remove = async (found: FoundGroup) => {
          let left: VolumeGroup = found.group;
          const steps: string[] = [];
          const removed = new Set<string>();
          for (const name of volumes ?? found.group.logicalVolumes.filter(isAlone).map((volume) => volume.name)) {
            if (removed.has(name)) continue; // it went with its origin
            if (!flags.yes && force() === 0 && !isDryRun(flags)) await confirmOrigin(left, name);
            const plan = planRemoveVolume(left, name);
            const others = volumes ? plan.dependents.filter((other) => !volumes.includes(other)) : [];
            if (!flags.yes && force() === 0 && !isDryRun(flags)) await confirmDependents(`${group}/${name}`, others);
            left = plan.group;
            steps.push(...plan.steps);
            for (const each of plan.removed) removed.add(each);
          }
          asked = volumes?.length === 1 ? removeBesideGuests(found.group, volumes[0]!) : null;
          return { group: left, steps };
        };
        const options = { ...changeOptions(context, flags), allowMissing: true };
        const directly = () => changeGroup(context, group, options, remove);
        results.push(await changeBesideGuests(context, flags, group, () => asked, directly));
      }
      printChange(flags, joinResults(results));
    },
  );
}

/** Not the entries that join origins and snapshots. */
function isAlone(volume: LogicalVolume): boolean {
  return isVisible(volume) && volume.segments[0]?.type !== "snapshot";
}

async function confirmOrigin(group: VolumeGroup, name: string): Promise<void> {
  const count = snapshotsOn(group, name).length;
  if (count === 0) return;
  const full = `${group.name}/${name}`;
  if (await askYesNo(`Do you really want to remove origin logical volume ${full} with ${count} snapshots(s)?`)) return;
  throw new DiskError(
    "DENIED",
    `Logical volume ${full} not removed: ${count} snapshots go with it, allowed with --yes`,
    {
      details: { volume: full, snapshots: count },
    },
  );
}

/** A pool takes its volumes with it. */
async function confirmDependents(pool: string, volumes: readonly string[]): Promise<void> {
  if (volumes.length === 0) return;
  const text = `Removing pool ${pool} will remove ${volumes.length} dependent volume(s)`;
  if (await askYesNo(`${text}. Proceed?`)) return;
  throw new DiskError("DENIED", `${text}: ${volumes.join(" ")}, allowed with --yes`, { details: { volumes } });
}

/** A snapshot goes although its origin is in use. */
function removeBesideGuests(group: VolumeGroup, name: string): LiveRequest | null {
  const joint = snapshotOf(group, name);
  if (!joint) return null;
  return { change: { kind: "remove-snapshot", name }, volumes: clusterIds(group, joint.origin) };
}
