/**
 * Writes a changed volume group, in LVM2's order. After each line a flush; a cut leaves what the right side says.
 *
 *   1  the text, into free room of every metadata area         the old group
 *   2  every header with the text as precommitted               the old group: readers ignore that slot
 *   3  every header with the text as committed                  some areas new, some old: the newest counts, so the new group
 *   4  labels of volumes that came or went, areas of the gone   the new group; a volume that is gone is told as outdated
 *
 * A header is one sector: it is the old one or the new one. Step 3 heals areas that were older or damaged.
 * With the group gone (vgremove) there is only step 4, which empties its areas one after the other.
 */
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { encodeLabel, isInUse, withInUse } from "./label.js";
import { SECTOR } from "./layout.js";
import type { TextHeader, VolumeGroup } from "./metadata.js";
import { type AreaWrite, encodeText, planHeader, planText, type TextLocation } from "./metadata-area.js";
import { printGroup } from "./print-group.js";
import type { FoundArea, FoundPv } from "./scan.js";

export type CommitStep =
  | {
      readonly kind: "write";
      readonly pv: string;
      readonly what: string;
      readonly device: BlockDevice;
      readonly offset: number;
      readonly data: Uint8Array;
    }
  | { readonly kind: "flush" };

export interface GroupWrite {
  /** With its new seqno; null: the group goes away. */
  readonly group: VolumeGroup | null;
  readonly header: TextHeader;
  /** Volumes of the new group that are there. */
  readonly members: readonly FoundPv[];
  /** Volumes that were in the group and are not any more. */
  readonly removed: readonly FoundPv[];
  /** Members whose label gets another id, which the group already says. */
  readonly renamed?: ReadonlyMap<FoundPv, string>;
}

interface AreaPlan {
  readonly pv: FoundPv;
  readonly area: FoundArea;
  readonly location: TextLocation;
  readonly writes: readonly AreaWrite[];
}

/** Pure. Throws `NO_SPACE` when the text is too long for some area, `DENIED` when no area would hold it. */
export function planCommit({ group, header, members, removed, renamed }: GroupWrite): CommitStep[] {
  const steps: CommitStep[] = [];
  if (group) {
    const text = encodeText(printGroup(group, header));
    const plans = members.flatMap((pv) =>
      pv.areas.filter(takesText).map((area): AreaPlan => ({ pv, area, ...planText(usable(area), text) })),
    );
    if (plans.length === 0)
      throw new DiskError(
        "DENIED",
        `Cannot write volume group ${group.name}: none of its devices has a usable metadata area`,
      );
    for (const { pv, writes } of plans) for (const write of writes) steps.push(step(pv, "metadata text", write));
    steps.push(FLUSH);
    for (const { pv, area, location } of plans)
      steps.push(step(pv, "precommitted header", planHeader(area, usable(area).committed, location)));
    steps.push(FLUSH);
    for (const { pv, area, location } of plans)
      steps.push(step(pv, "committed header", planHeader(area, location, null)));
    steps.push(FLUSH);
  }
  return [
    ...steps,
    ...labelSteps(members, true, renamed),
    ...emptySteps(members, (area) => area.ignored && area.committed !== null),
    ...emptySteps(removed, takesText),
    ...labelSteps(removed, false),
  ];
}

const FLUSH: CommitStep = { kind: "flush" };

function step(pv: FoundPv, what: string, { offset, data }: AreaWrite): CommitStep {
  return { kind: "write", pv: pv.name, what, device: pv.device, offset, data };
}

/** An area whose header is damaged gets a new one; one that lies outside of its device gets nothing. */
function takesText({ ignored, offset, size, header }: FoundArea): boolean {
  return !ignored && (header !== null || (size >= 8 * SECTOR && offset % SECTOR === 0 && size % SECTOR === 0));
}

/** Without a header nobody knows where its text lay: the ring begins anew. */
function usable(area: FoundArea): FoundArea {
  return area.header ? area : { ...area, committed: null };
}

function labelSteps(
  pvs: readonly FoundPv[],
  inUse: boolean,
  renamed: ReadonlyMap<FoundPv, string> = new Map(),
): CommitStep[] {
  const changed = pvs.filter((pv) => isInUse(pv.label) !== inUse || renamed.has(pv));
  if (changed.length === 0) return [];
  return [
    ...changed.map((pv) => {
      const label = { ...withInUse(pv.label, inUse), id: renamed.get(pv) ?? pv.label.id };
      return step(pv, "label", { offset: label.sector * SECTOR, data: encodeLabel(label) });
    }),
    FLUSH,
  ];
}

/** Areas of volumes that are gone, and those that are to be ignored from now on. */
function emptySteps(pvs: readonly FoundPv[], which: (area: FoundArea) => boolean): CommitStep[] {
  const areas = pvs.flatMap((pv) => pv.areas.filter(which).map((area) => ({ pv, area })));
  if (areas.length === 0) return [];
  return [...areas.map(({ pv, area }) => step(pv, "empty header", planHeader(area, null, null))), FLUSH];
}

/** Carries out the steps. A failure before the first committed header leaves the old group. */
export async function runCommit(steps: readonly CommitStep[]): Promise<void> {
  const touched = new Set<BlockDevice>();
  for (const entry of steps) {
    if (entry.kind === "write") {
      await entry.device.write(entry.offset, entry.data);
      touched.add(entry.device);
    } else {
      await Promise.all([...touched].map((device) => device.flush()));
    }
  }
}
