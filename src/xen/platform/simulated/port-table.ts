/**
 * A domain's ports as shared words: states, who is at the other end, and how an event is delivered (2-level ABI).
 * Pending and mask bits lie in the guest-visible shared_info; the port table and the doorbells are the hypervisor's own.
 */
import { DiskError } from "../../../errors.js";
import { type DomainTable, type DomainView, lockedBoth, MAX_PORTS, SHARED_INFO, XEN_WORDS } from "./domain-pages.js";

/** EVTCHNSTAT_* of event_channel.h. */
export const PORT_STATE = { closed: 0, unbound: 1, interdomain: 2, virq: 4 } as const;

/** Words of one row of the port table. */
export const STATE = 0;
/** The other end (`peerWord`): of an unbound port its domid alone; of a VIRQ's port the VIRQ. */
export const PEER = 1;
export const VCPU = 2;

/** Domids are 15 bits wide. */
const MAX_DOMID = 0x7fff;

const PENDING_WORD = SHARED_INFO.evtchnPending / 4;
const MASK_WORD = SHARED_INFO.evtchnMask / 4;

export function row(port: number): number {
  return XEN_WORDS.ports + port * 4;
}

/** A domain's port as one word, so that nobody sees half of an old one. */
export function peerWord(domid: number, port: number): number {
  return (domid << 16) | port;
}

export function peerDomid(word: number): number {
  return word >>> 16;
}

export function peerPort(word: number): number {
  return word & 0xffff;
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port < MAX_PORTS;
}

/** Why the hypervisor refused, with Xen's errno in `details`. */
export function refused(errno: "EINVAL" | "ESRCH" | "EPERM" | "EEXIST" | "ENOSPC", why: string): DiskError {
  const code = errno === "EPERM" ? "DENIED" : errno === "ENOSPC" ? "NO_SPACE" : "PROTOCOL";
  return new DiskError(code, `Cannot use the event channel: ${why}`, { details: { errno } });
}

/** The lowest free port, made ready for `vcpu` in full before its state shows it. Call with the domain's lock held. */
export function takePort(domain: DomainView, state: number, peer: number, vcpu: number): number {
  const { xen, info, domid } = domain;
  for (let port = 1; port < MAX_PORTS; port++) {
    const at = row(port);
    if (Atomics.load(xen, at + STATE) !== PORT_STATE.closed) continue;
    xen[at + PEER] = peer;
    xen[at + VCPU] = vcpu;
    clearPending(domain, port);
    Atomics.and(info, MASK_WORD + (port >> 5), ~(1 << (port & 31)));
    Atomics.store(xen, at + STATE, state);
    return port;
  }
  throw refused("ENOSPC", `domain ${domid} has all ${MAX_PORTS - 1} ports in use`);
}

/** EVTCHNOP_alloc_unbound: the lowest free port, for `remoteDomid` to bind, whether there is such a domain yet or not. */
export function allocUnbound(domain: DomainView, remoteDomid: number, vcpu: number): number {
  if (!Number.isInteger(remoteDomid) || remoteDomid < 0 || remoteDomid > MAX_DOMID)
    throw refused("ESRCH", `there is no domain ${remoteDomid}`);
  return domain.locked(() => takePort(domain, PORT_STATE.unbound, peerWord(remoteDomid, 0), vcpu));
}

/** Binds a new port of `own` to the peer's unbound one, and leaves it pending once: the peer may have sent before. */
export function bindPorts(own: DomainView, remote: DomainView, remotePort: number, vcpu: number): number {
  const at = row(remotePort);
  const port = lockedBoth(own, remote, () => {
    if (!remote.alive) throw refused("ESRCH", `there is no domain ${remote.domid}`);
    const isOurs =
      Atomics.load(remote.xen, at + STATE) === PORT_STATE.unbound && peerDomid(remote.xen[at + PEER]!) === own.domid;
    if (!isOurs)
      throw refused("EINVAL", `port ${remotePort} of domain ${remote.domid} is not unbound for domain ${own.domid}`);
    const local = takePort(own, PORT_STATE.interdomain, peerWord(remote.domid, remotePort), vcpu);
    remote.xen[at + PEER] = peerWord(own.domid, local);
    Atomics.store(remote.xen, at + STATE, PORT_STATE.interdomain);
    return local;
  });
  setPending(own, port);
  return port;
}

/** The peer's end returns to unbound, for the same domain to bind it again. */
export function closePort(domains: DomainTable, own: DomainView, port: number): void {
  const at = row(port);
  const peer = own.locked(() => {
    const state = Atomics.load(own.xen, at + STATE);
    if (state === PORT_STATE.virq) forgetVirq(own, port);
    Atomics.store(own.xen, at + STATE, PORT_STATE.closed);
    clearPending(own, port); // an event that nobody has taken goes with its port
    return state === PORT_STATE.interdomain ? own.xen[at + PEER]! : undefined;
  });
  const remote = peer === undefined ? undefined : domains.get(peerDomid(peer));
  remote?.locked(() => {
    const remotePort = peerPort(peer!);
    if (isBoundTo(remote, remotePort, peerWord(own.domid, port)))
      Atomics.store(remote.xen, row(remotePort) + STATE, PORT_STATE.unbound);
  });
}

/** Closes the ports of a domain, or those of one of its vcpus; their peers' ends return to unbound. */
export function closeAllPorts(domains: DomainTable, domain: DomainView, vcpu?: number): void {
  for (let port = 1; port < MAX_PORTS; port++) {
    const at = row(port);
    if (Atomics.load(domain.xen, at + STATE) === PORT_STATE.closed) continue;
    if (vcpu === undefined || domain.xen[at + VCPU] === vcpu) closePort(domains, domain, port);
  }
}

export function isBoundTo(domain: DomainView, port: number, peer: number): boolean {
  const at = row(port);
  return Atomics.load(domain.xen, at + STATE) === PORT_STATE.interdomain && domain.xen[at + PEER] === peer;
}

/** Test-and-set pending; unless masked, test-and-set the selector; then the upcall flag and the doorbell. */
export function setPending(domain: DomainView, port: number): void {
  const { info, xen } = domain;
  const bit = 1 << (port & 31);
  if (Atomics.or(info, PENDING_WORD + (port >> 5), bit) & bit) return;
  if (Atomics.load(info, MASK_WORD + (port >> 5)) & bit) wakePoller(domain, xen[row(port) + VCPU]!);
  else deliver(domain, port);
}

export function isPending(domain: DomainView, port: number): boolean {
  return (Atomics.load(domain.info, PENDING_WORD + (port >> 5)) & (1 << (port & 31))) !== 0;
}

function clearPending(domain: DomainView, port: number): void {
  Atomics.and(domain.info, PENDING_WORD + (port >> 5), ~(1 << (port & 31)));
}

export function maskPort(domain: DomainView, port: number): void {
  Atomics.or(domain.info, MASK_WORD + (port >> 5), 1 << (port & 31));
}

/** What became pending behind the mask is delivered now. */
export function unmaskPort(domain: DomainView, port: number): void {
  const bit = 1 << (port & 31);
  const wasMasked = Atomics.and(domain.info, MASK_WORD + (port >> 5), ~bit) & bit;
  if (wasMasked && isPending(domain, port)) deliver(domain, port);
}

/** Rings a vcpu without an event, so that its thread looks at its messages. */
export function ringDoorbell(domain: DomainView, vcpu: number): void {
  Atomics.add(domain.xen, XEN_WORDS.doorbells + vcpu, 1);
  Atomics.notify(domain.xen, XEN_WORDS.doorbells + vcpu);
}

/** A poll looks behind masks, where no upcall happens. */
function wakePoller(domain: DomainView, vcpu: number): void {
  if (Atomics.load(domain.xen, XEN_WORDS.polling) & (1 << vcpu)) ringDoorbell(domain, vcpu);
}

function deliver(domain: DomainView, port: number): void {
  const vcpu = domain.xen[row(port) + VCPU]!;
  const vcpuInfo = vcpu * SHARED_INFO.vcpuInfoSize;
  const word64 = port >> 6;
  Atomics.or(domain.info, (vcpuInfo + SHARED_INFO.pendingSel) / 4 + (word64 >> 5), 1 << (word64 & 31));
  if (Atomics.exchange(domain.infoBytes, vcpuInfo + SHARED_INFO.upcallPending, 1) === 0) ringDoorbell(domain, vcpu);
}

function forgetVirq(domain: DomainView, port: number): void {
  const table = domain.xen.subarray(XEN_WORDS.virqs, XEN_WORDS.pins);
  const slot = table.indexOf(port);
  if (slot >= 0) table[slot] = 0;
}
