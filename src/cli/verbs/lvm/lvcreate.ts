/** `xvd lvcreate`: a new volume in a group. */
import { type Command, Option } from "commander";
import { raidLevel } from "../../../lvm/raid/levels.js";
import { createRequest, type LvcreateFlags, namesOf } from "./lvcreate-request.js";
import {
  addChanging,
  changeOptions,
  collect,
  lvmContext,
  parseCount,
  parseKibibytes,
  parseMebibytes,
  parseYesNo,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { parsePvArguments } from "./pv-arguments.js";
import { addSizes, givenSize } from "./sizes.js";
import { addThinOptions, wantsThin } from "./thin-options.js";

export default function define(command: Command): void {
  addThinOptions(command);
  addSizes(
    addPolicy(
      addChanging(
        command
          .argument("[vg]", "the group; for a snapshot its origin, VG/LV; for a thin volume also its pool, VG/POOL")
          .argument("[disks...]", "only on these physical volumes, also DISK:0-99 or @tag"),
      ),
    ),
    "",
  )
    .option("-n, --name <name>", "of the volume (default: lvol0, lvol1 …)")
    .option("-i, --stripes <n>", "stripes side by side", parseCount)
    .option("-I, --stripesize <size>", "of each stripe (default: 64k)", parseKibibytes)
    .option(
      "--type <type>",
      "linear, striped, raid1, raid10, raid4, raid5, raid6 and their layouts, mirror, thin-pool, thin, error or zero",
    )
    .option("-C, --contiguous <y|n>", "in one piece", parseYesNo)
    .option("--addtag <tag>", "add a tag", collect)
    .option("-p, --permission <rw|r>", "writable or read-only", parsePermission)
    .option(
      "-Z, --zero <y|n>",
      "zero the first 4 KiB; of a pool: chunks that are written in part (default: y)",
      parseYesNo,
    )
    .option("-W, --wipesignatures <y|n>", "wipe superblocks of old file systems (default: y)", parseYesNo)
    .option("-a, --activate <y|n|ay>", "accepted: volumes are served when they are opened")
    .option("--setautoactivation <y|n>", "whether a kernel activates it by itself", parseYesNo)
    .option("-k, --setactivationskip <y|n>", "whether a kernel leaves it out", parseYesNo)
    .option("-m, --mirrors <n>", "copies beside the first: raid1, raid10, mirror", parseCount)
    .option("-R, --regionsize <size>", "what is made alike at once after a cut (default: 2M)", parseMebibytes)
    .option("--nosync", "do not make the legs alike: what was never written may differ")
    .addOption(new Option("--mirrorlog <where>", "of a mirror: on a volume, or nowhere").choices(["disk", "core"]))
    .option(
      "-s, --snapshot",
      "a snapshot of the volume VG/LV that is named instead of a group; -L or -l is what it may keep, a thin one needs none",
    )
    .addHelpText(
      "after",
      "\nExamples:\n  xvd lvcreate -L 10G -n root vg0\n  xvd lvcreate -i 2 -I 64k -l 100%FREE -n data vg0 p0.dsk p1.dsk:100-\n  xvd lvcreate --type raid1 -m 1 -L 10G -n safe vg0\n  xvd lvcreate -s -L 1G -n before vg0/root\n  xvd lvcreate -L 100G -V 1T -T vg0/pool -n web\n  xvd lvcreate -s -n monday vg0/web",
    )
    .action((name: string | undefined, disks: string[], flags: LvcreateFlags) => run(name, disks, flags));
}

async function run(target: string | undefined, disks: string[], flags: LvcreateFlags): Promise<void> {
  if (wantsThin(flags)) return (await import("./lvcreate-thin.js")).createThin(target, disks, flags);
  if (target === undefined) throw usage("Please provide a volume group name");
  const raid = raidTypeOf(flags);
  if (raid !== null) return (await import("./lvcreate-raid.js")).createRaid(target, disks, flags, raid);
  if (wantsSnapshot(flags)) return (await import("./lvcreate-snapshot.js")).createSnapshot(target, disks, flags);
  const size = givenSize(flags);
  if (!size) throw usage("Please specify either size (-L) or extents (-l)");
  const { group, volume } = namesOf(target, flags);
  const { changeGroup } = await import("../../../stack/lvm/change.js");
  const { planCreateVolume } = await import("../../../lvm/changes/create-volume.js");
  const { withWiping } = await import("../../../stack/lvm/volumes.js");
  const { newId } = await import("../../../lvm/id.js");
  const context = lvmContext("lvcreate");
  const result = await changeGroup(context, group, changeOptions(context, flags), (found) => {
    const within = parsePvArguments(found, disks);
    const plan = planCreateVolume(found.group, {
      ...createRequest(context, flags),
      id: newId(context.random),
      size,
      ...(volume === undefined ? {} : { name: volume }),
      ...(flags.type === undefined ? {} : { type: flags.type }),
      ...(within ? { within } : {}),
    });
    return withWiping(plan, { zero: flags.zero ?? true, wipe: flags.wipesignatures ?? flags.zero ?? true });
  });
  printChange(flags, result);
}

/** Null for volumes without legs. Copies alone mean raid1, copies of stripes raid10. */
function raidTypeOf({ type, mirrors = 0, stripes = 1 }: LvcreateFlags): string | null {
  if (type !== undefined) return type === "mirror" || raidLevel(type) ? type : null;
  if (mirrors === 0) return null;
  return stripes > 1 ? "raid10" : "raid1";
}

function wantsSnapshot({ snapshot, type, thin, thinpool }: LvcreateFlags): boolean {
  return type === "snapshot" || (snapshot === true && type === undefined && !thin && thinpool === undefined);
}

export function parsePermission(text: string): "r" | "rw" {
  if (text === "r" || text === "rw") return text;
  throw usage("Cannot use this permission: allowed rw and r");
}
