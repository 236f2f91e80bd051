/**
 * A domain's maptrack: which handle stands for which mapping, in shared words, so that what a thread held can be released
 * when the thread is no more. As in Xen, each vcpu takes whole frames of handles from the domain's and keeps them.
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

/** Bits of a row's first word; the granter's domid above them. The second word is the grant reference. */
const HELD = 1;
const WRITABLE = 2;
const DOMID_SHIFT = 2;

/** The handles of one vcpu, used from its thread only. */
export class Maptrack {
  readonly #xen: Int32Array;
  readonly #vcpu: number;
  readonly #free: number[] = [];

  constructor(own: DomainView, vcpu: number) {
    this.#xen = own.xen;
    this.#vcpu = vcpu;
  }

  /** A free handle, or undefined when the domain has mapped all that it may. */
  take(): number | undefined {
    const handle = this.#free.pop();
    return handle === undefined && this.#takeFrame() ? this.#free.pop() : handle;
  }

  give(handle: number): void {
    this.#free.push(handle);
  }

  #takeFrame(): boolean {
    for (let frame = 0; frame < MAPTRACK_FRAMES; frame++) {
      if (Atomics.compareExchange(this.#xen, XEN_WORDS.maptrackOwners + frame, 0, this.#vcpu + 1) !== 0) continue;
      for (let i = HANDLES_PER_FRAME - 1; i >= 0; i--) this.#free.push(frame * HANDLES_PER_FRAME + i);
      return true;
    }
    return false;
  }
}

/** Word of the handle's row. */
export function maptrackRow(handle: number): number {
  return XEN_WORDS.maptrack + handle * 2;
}

export function maptrackWord(domid: number, writable: boolean): number {
  return (domid << DOMID_SHIFT) | (writable ? WRITABLE : 0) | HELD;
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
  for (let frame = 0; frame < MAPTRACK_FRAMES; frame++) {
    const owner = Atomics.load(mapper.xen, XEN_WORDS.maptrackOwners + frame);
    if (owner !== 0 && (vcpu === undefined || owner === vcpu + 1)) releaseFrame(domains, mapper, owner - 1, frame);
  }
}

function releaseFrame(domains: DomainTable, mapper: DomainView, vcpu: number, frame: number): void {
  const { xen } = mapper;
  const lock = entryLock(vcpuId(mapper.domid, vcpu));
  for (let i = 0; i < HANDLES_PER_FRAME; i++) {
    const at = maptrackRow(frame * HANDLES_PER_FRAME + i);
    const word = xen[at]!;
    const granter = domains.get(word >> DOMID_SHIFT);
    if (word & HELD && granter && hasGrants(granter)) {
      unpin(granter, lock, xen[at + 1]!, (word & WRITABLE) !== 0);
      Atomics.sub(granter.xen, XEN_WORDS.foreignMaps, 1);
    }
    xen[at] = 0;
  }
  Atomics.store(xen, XEN_WORDS.maptrackOwners + frame, 0);
}

function hasGrants(domain: DomainView): domain is Granter {
  return domain.entries !== undefined && domain.memory !== undefined;
}
