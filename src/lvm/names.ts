/** What groups, volumes and tags may be called. LVM2 lib/misc/lvm-string.c. */
import { DiskError } from "../errors.js";

const MAX_NAME = 127;
/** Names of parts of volumes, which LVM2 gives itself. */
const RESERVED_START = /^(pvmove|snapshot)/;
const RESERVED_PART =
  /_(cdata|cmeta|corig|cpool|cvol|wcorig|mimage|mlog|rimage|rmeta|tdata|tmeta|vdata|imeta|iorig|pmspare|vorigin)/;

/** Why a name is none for a volume group; null when it is good. */
export function groupNameProblem(name: string): string | null {
  if (name === "" || name === "." || name === "..") return "it is empty or a folder";
  if (name.length > MAX_NAME) return `it is ${name.length} characters long, allowed ${MAX_NAME}`;
  if (name.startsWith("-")) return "it begins with a hyphen";
  return /^[a-zA-Z0-9._+-]+$/.test(name) ? null : "allowed are a-z A-Z 0-9 . _ + -";
}

/** The same for a logical volume that users make. */
export function volumeNameProblem(group: string, name: string): string | null {
  const problem = groupNameProblem(name);
  if (problem) return problem;
  if (RESERVED_START.test(name) || RESERVED_PART.test(name)) return "LVM2 uses such names for parts of volumes";
  const room = 128 - 3;
  return group.length + name.length < room ? null : "together with the group's name it is too long, allowed 124";
}

export function checkGroupName(name: string): void {
  const problem = groupNameProblem(name);
  if (problem)
    throw new DiskError("UNSUPPORTED", `Cannot use volume group name ${JSON.stringify(name)}: ${problem}`, {
      details: { usage: true, name },
    });
}

export function checkVolumeName(group: string, name: string): void {
  const problem = volumeNameProblem(group, name);
  if (problem)
    throw new DiskError("UNSUPPORTED", `Cannot use logical volume name ${JSON.stringify(name)}: ${problem}`, {
      details: { usage: true, name },
    });
}

/** A tag without its leading @. */
export function parseTag(text: string): string {
  const tag = text.replace(/^@/, "");
  if (/^[a-zA-Z0-9_+./=!:&#-]{1,1024}$/.test(tag)) return tag;
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot use tag ${JSON.stringify(text)}: allowed are a-z A-Z 0-9 _ + . - / = ! : & #`,
    { details: { usage: true, tag: text } },
  );
}
