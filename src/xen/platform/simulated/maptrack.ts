/**
 * A domain's maptrack: which handle stands for which mapping, in shared words, so that what a thread held can be released
 * when the thread is no more. As in Xen, each vcpu takes whole frames of handles from the domain's and keeps them. Here a
 * frame is for mappings of one domain only, so that one that offers grants without end uses up its own share (XSA-300).
 *
 * A thread can be ended only where JavaScript looks for that: at the start of a function and at the end of a loop's turn.
 * So a row is written, and cleared, in one straight line with the pin that it stands for.
 */
import {
  type DomainTable,
  type DomainView,
  HANDLES_PER_FRAME,
  MAPTRACK_FRAMES,
  MAX_VCPUS,
  vcpuId,
  XEN_WORDS,
} from "./domain-pages.js";
import { breakEntryLocks, entryLock, type Granter, unpin } from "./grant-entry.js";

/** The part of a domain's maptrack that mappings of one other may take: 65536 pages, two full grant tables. */
export const FRAMES_PER_GRANTER = MAPTRACK_FRAMES / 4;

/** Bits of a row; the grant reference above them. */
const HELD = 1;
const WRITABLE = 2;
const REF_SHIFT = 2;
/** Bits of a frame's owner: 1 more than the vcpu, and the granter's domid above. */
const DOMID_SHIFT = 8;
const VCPU_MASK = 0xff;

/** Word of the handle's row. */
export function maptrackRow(handle: number): number {
  return XEN_WORDS.maptrack + handle;
}

/** A row's contents while the handle maps; 0 while it is free. */
export function maptrackWord(ref: number, writable: boolean): number {
  return (ref << REF_SHIFT) | (writable ? WRITABLE : 0) | HELD;
}

/** Takes a frame of handles for `vcpu` to map pages of `granter`, and adds them to the granter's free ones. False when its share is used up. */
export function takeMaptrackFrame(own: DomainView, vcpu: number, granter: DomainView): boolean {
  const owners = ownersOf(own);
  const owner = (granter.domid << DOMID_SHIFT) | (vcpu + 1);
  const frame = own.locked(() => {
    const taken = owners.reduce(
      (count, word) => count + (word !== 0 && word >> DOMID_SHIFT === granter.domid ? 1 : 0),
      0,
    );
    const free = taken < FRAMES_PER_GRANTER ? owners.indexOf(0) : -1;
    if (free >= 0) owners[free] = owner;
    return free;
  });
  if (frame < 0) return false;
  for (let i = HANDLES_PER_FRAME - 1; i >= 0; i--) granter.freeHandles.push(frame * HANDLES_PER_FRAME + i);
  return true;
}

/** Nobody has any page of `granter` mapped, and nobody will: its share of `mapper`'s maptrack is free again. */
export function forgetGranter(mapper: DomainView, granter: number): void {
  const owners = ownersOf(mapper);
  mapper.locked(() => {
    for (const [frame, word] of owners.entries()) if (word !== 0 && word >> DOMID_SHIFT === granter) owners[frame] = 0;
  });
}

/**
 * Lets go what a domain, or one vcpu of it, holds of others. Its thread has ended: nothing is taken meanwhile.
 * `domains` knows every granter, dying ones too.
 */
export function releaseMappings(domains: DomainTable, mapper: DomainView, vcpu?: number): void {
  const first = vcpuId(mapper.domid, vcpu ?? 0);
  const last = vcpuId(mapper.domid, vcpu ?? MAX_VCPUS - 1);
  for (const domain of domains.values()) {
    domain.breakLock(first, last);
    if (hasGrants(domain)) breakEntryLocks(domain, entryLock(first), entryLock(last));
  }
  for (const [frame, owner] of ownersOf(mapper).entries())
    if (owner !== 0 && (vcpu === undefined || (owner & VCPU_MASK) === vcpu + 1))
      releaseFrame(domains.get(owner >> DOMID_SHIFT), mapper, (owner & VCPU_MASK) - 1, frame);
}

function releaseFrame(granter: DomainView | undefined, mapper: DomainView, vcpu: number, frame: number): void {
  const lock = entryLock(vcpuId(mapper.domid, vcpu));
  for (let i = 0; i < HANDLES_PER_FRAME; i++) {
    const at = maptrackRow(frame * HANDLES_PER_FRAME + i);
    const word = mapper.xen[at]!;
    mapper.xen[at] = 0;
    if (word & HELD && granter && hasGrants(granter)) unpin(granter, lock, word >> REF_SHIFT, (word & WRITABLE) !== 0);
  }
  Atomics.store(ownersOf(mapper), frame, 0);
}

function ownersOf(mapper: DomainView): Int32Array {
  return mapper.xen.subarray(XEN_WORDS.maptrackOwners, XEN_WORDS.maptrackOwners + MAPTRACK_FRAMES);
}

function hasGrants(domain: DomainView): domain is Granter {
  return domain.entries !== undefined && domain.memory !== undefined;
}
