/** What every change of a group is: the group as it shall be, and what was done, in LVM2's words where scripts read them. */
import { DiskError } from "../../errors.js";
import { checkGroup, unknownParts } from "../check-group.js";
import type { VolumeGroup } from "../metadata.js";

export interface GroupPlan {
  readonly group: VolumeGroup;
  readonly steps: readonly string[];
}

/** Throws when a group must not be changed: damaged, exported, of another host, or with parts that nobody here knows. */
export function requireChangeable(group: VolumeGroup, allowExported = false): void {
  const { name } = group;
  const refuse = (why: string, code: "DENIED" | "CORRUPT" | "UNSUPPORTED" = "DENIED"): never => {
    throw new DiskError(code, `Cannot change volume group ${name}: ${why}`, { details: { group: name } });
  };
  if (group.status.includes("EXPORTED") && !allowExported) refuse("it is exported");
  if (!group.status.includes("WRITE")) refuse("it is read-only");
  if (group.systemId !== "") refuse(`it belongs to the system ${JSON.stringify(group.systemId)}`);
  if (group.lockType !== "" && group.lockType !== "none") refuse(`it is shared by ${group.lockType}`, "UNSUPPORTED");
  const [unknown] = unknownParts(group);
  if (unknown) refuse(unknown, "UNSUPPORTED");
  const [problem] = checkGroup(group);
  if (problem) refuse(`it is damaged: ${problem}`, "CORRUPT");
}

/** Throws `DENIED` when no physical volume may come or go (`vgchange -x n`). */
export function requireResizeable({ name, status }: VolumeGroup): void {
  if (!status.includes("RESIZEABLE"))
    throw new DiskError("DENIED", `Volume group ${name} is not resizeable`, { details: { group: name } });
}

/** Bytes as LVM2 writes them in messages: `4.00 MiB`. */
export function messageSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 1;
  while (unit < units.length - 1 && bytes >= 1024 ** (unit + 1)) unit++;
  return `${(bytes / 1024 ** unit).toFixed(2)} ${units[unit]}`;
}

export function usage(message: string): DiskError {
  return new DiskError("UNSUPPORTED", message, { details: { usage: true } });
}

export function setFlag(flags: readonly string[], flag: string, on: boolean | undefined): readonly string[] {
  if (on === undefined || flags.includes(flag) === on) return flags;
  return on ? [...flags, flag] : flags.filter((other) => other !== flag);
}

export function changedTags(
  tags: readonly string[],
  added: readonly string[],
  deleted: readonly string[],
): readonly string[] {
  return [...new Set([...tags.filter((tag) => !deleted.includes(tag)), ...added])];
}
