/** `xvd pvmove`: extents move from one physical volume to others; alone it goes on with what was interrupted. */
import type { Command } from "commander";
import { DiskError } from "../../../errors.js";
import type { AllocationPolicy, VolumeGroup } from "../../../lvm/metadata.js";
import type { FoundGroup, Scan } from "../../../lvm/scan.js";
import type { ChangeResult, LvmContext } from "../../../stack/lvm/change.js";
import { interruptible } from "../../interrupt.js";
import { withProgress } from "../../progress.js";
import {
  addChanging,
  type CommonFlags,
  changeOptions,
  joinResults,
  lvmContext,
  parseVolumeName,
  printChange,
  usage,
} from "./options.js";
import { addPolicy } from "./policy.js";
import { memberOf, parsePvArguments } from "./pv-arguments.js";

interface Flags extends CommonFlags {
  readonly name?: string;
  readonly alloc?: AllocationPolicy;
  readonly abort?: boolean;
}

export default function define(command: Command): void {
  addPolicy(addChanging(command.argument("[source]", "the physical volume to be emptied, also DISK:0-99")))
    .argument("[targets...]", "only onto these, also DISK:0-99 or @tag")
    .option("-n, --name <lv>", "only what this volume is made of")
    .option("--abort", "give up what was interrupted: what has not moved stays where it is")
    .option("-i, --interval <seconds>", "accepted")
    .option("--atomic", "accepted: what has moved is used only when it is durable")
    .addHelpText(
      "after",
      "\nA move that was interrupted, by us or by LVM2, goes on with 'xvd pvmove'.\n\nExamples:\n  xvd pvmove p0.dsk\n  xvd pvmove -n root p0.dsk:0-99 p2.dsk",
    )
    .action((source: string | undefined, targets: string[], flags: Flags) => run(source, targets, flags));
}

async function run(source: string | undefined, targets: string[], flags: Flags): Promise<void> {
  const context = lvmContext("pvmove");
  const options = changeOptions(context, flags);
  const { openSession } = await import("../../../stack/lvm/open-session.js");
  const { abortMove, movePv, resumeMove } = await import("../../../stack/lvm/pvmove.js");
  const session = await openSession(options.devices, { paths: context.paths });
  const under = underWay(session.scan, source);
  await session.close();
  if (under.length === 0 && (source === undefined || flags.abort)) {
    if (source !== undefined)
      throw new DiskError("NOT_FOUND", `${source}: No pvmove in progress - already finished or aborted.`);
    return;
  }
  const results: ChangeResult[] = [];
  for (const { group, name, device } of under) {
    if (!flags.abort && source !== undefined) context.warn(`Detected pvmove in progress for ${device}.`);
    results.push(
      flags.abort
        ? await abortMove(context, group, name, options)
        : await moving(device, flags, (move) => resumeMove(context, group, name, move, options)),
    );
  }
  if (under.length === 0) {
    const { newId } = await import("../../../lvm/id.js");
    const group = groupWith(session.scan, source!);
    results.push(
      await moving(source!.replace(/:[\d:+-]+$/, ""), flags, (move) =>
        movePv(
          context,
          group,
          (found) => request(context, found, source!, targets, flags, newId(context.random)),
          move,
          options,
        ),
      ),
    );
  }
  printChange(flags, joinResults(results));
}

async function moving(
  device: string,
  flags: Flags,
  work: (move: { signal: AbortSignal; onProgress?: (done: number, total: number) => void }) => Promise<ChangeResult>,
): Promise<ChangeResult> {
  const result = await withProgress(`pvmove ${device}`, flags, (report) =>
    interruptible((signal) => work({ signal, ...report }), "'xvd pvmove' goes on, 'xvd pvmove --abort' gives up"),
  );
  return { ...result, diff: result.diff, steps: [`${device}: Moved: 100.00%`] };
}

function request(
  { now, host }: LvmContext,
  found: FoundGroup,
  source: string,
  targets: readonly string[],
  flags: Flags,
  id: string,
) {
  const from = parsePvArguments(found, [source])!;
  const to = parsePvArguments(found, targets);
  const volume = flags.name?.includes("/") ? parseVolumeName(flags.name).volume : flags.name;
  if (new Set(from.map(({ pv }) => pv)).size !== 1) throw usage(`"${source}": a move is from one physical volume`);
  return {
    from,
    ...(to ? { to } : {}),
    ...(volume === undefined ? {} : { volume }),
    ...(flags.alloc ? { allocation: flags.alloc } : {}),
    id,
    time: now,
    host,
  };
}

/** The group that has the source, which may have ranges behind its name. */
function groupWith({ groups }: Scan, source: string): string {
  for (const found of groups)
    for (const name of [source, source.replace(/(:[\d+-]+)+$/, "")]) if (memberOf(found, name)) return found.group.name;
  throw new DiskError("NOT_FOUND", `Failed to find physical volume "${source}" in any volume group.`, {
    details: { device: source },
  });
}

interface UnderWay {
  readonly group: string;
  readonly name: string;
  /** From where it moves. */
  readonly device: string;
}

/** Moves that were begun: all of them, or those from one physical volume. */
function underWay({ groups }: Scan, source: string | undefined): UnderWay[] {
  return groups.flatMap((found) => {
    const wanted = source === undefined ? undefined : memberOf(found, source.replace(/(:[\d+-]+)+$/, ""))?.name;
    if (source !== undefined && wanted === undefined) return [];
    return movesOf(found.group).flatMap(({ name, pv }) => {
      if (wanted !== undefined && pv !== wanted) return [];
      return [{ group: found.group.name, name, device: found.members.get(pv)?.name ?? pv }];
    });
  });
}

function movesOf({ logicalVolumes }: VolumeGroup): { name: string; pv: string }[] {
  return logicalVolumes.flatMap(({ name, status, segments }) => {
    const [from] = segments[0]?.areas ?? [];
    return status.includes("PVMOVE") && from?.kind === "pv" ? [{ name, pv: from.pv }] : [];
  });
}
