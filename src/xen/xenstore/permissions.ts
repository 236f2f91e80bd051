/**
 * Permission lists. Entry 0 names the owner, who may do everything, and with its letter what everybody else may;
 * of the later entries the first that names a domain decides for it. Dom0 is never asked.
 */
import { xenstoreError } from "./xenstore-error.js";

export const READ = 1;
export const WRITE = 2;
export const OWNER = 4;

const LETTERS = { n: 0, r: READ, w: WRITE, b: READ | WRITE } as const;
const LETTER_BY_ACCESS = ["n", "r", "w", "b"] as const;
const PERMISSION_PATTERN = /^([nrwb])(\d{1,5})$/;

/** DOMID_FIRST_RESERVED: no domain has this number or a higher one. */
export const DOMID_LIMIT = 0x7ff0;

export interface Permission {
  readonly domid: number;
  /** READ and WRITE bits. */
  readonly access: number;
  /** There was no such domain when the entry was written: a later domain with its number gets nothing from it (XSA-322). */
  readonly void?: true;
}

/** At least one entry. Never changed in place: nodes, transactions and pending changes share lists. */
export type Permissions = readonly [Permission, ...Permission[]];

export const DOM0_ONLY: Permissions = [{ domid: 0, access: 0 }];

/** Who asks. `target` is the domain that a device model acts for (SET_TARGET). */
export interface Caller {
  readonly domid: number;
  readonly target: number | undefined;
  readonly privileged: boolean;
}

/** The READ, WRITE and OWNER bits that `caller` has under `permissions`. */
export function accessOf(caller: Caller, permissions: Permissions): number {
  const [owner, ...others] = permissions;
  const isCaller = (entry: Permission) =>
    !entry.void && (entry.domid === caller.domid || entry.domid === caller.target);
  if (caller.privileged || isCaller(owner)) return READ | WRITE | OWNER;
  return (others.find(isCaller) ?? owner).access;
}

/** The list as a node created by `caller` below inherits it: an unprivileged creator becomes the owner. */
export function inheritedBy(caller: Caller, permissions: Permissions): Permissions {
  if (caller.privileged) return permissions;
  const [owner, ...others] = permissions;
  return [{ domid: caller.domid, access: owner.access }, ...others];
}

/** `r5` and its like. Throws EINVAL for another form, for no entry, and for a number no domain can have. */
export function parsePermissions(texts: readonly string[], exists: (domid: number) => boolean): Permissions {
  const entries = texts.map((text): Permission => {
    const [, letter, digits] = PERMISSION_PATTERN.exec(text) ?? [];
    const domid = Number(digits);
    if (!letter || domid >= DOMID_LIMIT) throw xenstoreError("EINVAL", "set xenstore permissions");
    const access = LETTERS[letter as keyof typeof LETTERS];
    return exists(domid) ? { domid, access } : { domid, access, void: true };
  });
  if (!isPermissions(entries)) throw xenstoreError("EINVAL", "set xenstore permissions");
  return entries;
}

export function printPermission({ domid, access }: Permission): string {
  return `${LETTER_BY_ACCESS[access]}${domid}`;
}

/** The list without what it said about a domain that is gone; the same list when it said nothing. Its owner stays. */
export function withoutDomain(permissions: Permissions, domid: number): Permissions {
  const [owner, ...others] = permissions;
  const kept = others.filter((entry) => entry.domid !== domid);
  return kept.length === others.length ? permissions : [owner, ...kept];
}

function isPermissions(entries: Permission[]): entries is [Permission, ...Permission[]] {
  return entries.length > 0;
}
