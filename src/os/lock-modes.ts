/** Who excludes whom: QEMU's permissions that each mode of locking uses, and those that it does not share. */

/**
 * A writer excludes everybody; readers share. `part-…` is for one of several parts of a disk that are used by themselves, as
 * volumes of one group are: their users share the disk with each other, and not with those who read or write all of it.
 */
export type LockMode = "read" | "write" | "part-read" | "part-write";

export const PERMISSION_BASE = 100;
export const UNSHARED_BASE = 200;

const CONSISTENT_READ = 0;
const WRITE = 1;
const WRITE_UNCHANGED = 2;
export const RESIZE = 3;

export const BYTES: Record<LockMode, { readonly uses: readonly number[]; readonly keeps: readonly number[] }> = {
  read: { uses: [CONSISTENT_READ], keeps: [WRITE, RESIZE] },
  write: { uses: [CONSISTENT_READ, WRITE, RESIZE], keeps: [CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE] },
  "part-read": { uses: [CONSISTENT_READ], keeps: [RESIZE] },
  "part-write": { uses: [CONSISTENT_READ, WRITE], keeps: [RESIZE] },
};

/** Whether two locks on one file cannot be held at once. */
export function exclude(a: LockMode, b: LockMode): boolean {
  const against = (one: LockMode, other: LockMode) => BYTES[one].keeps.some((bit) => BYTES[other].uses.includes(bit));
  return against(a, b) || against(b, a);
}
