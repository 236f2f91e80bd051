/** Virtual interrupts: events that the hypervisor itself sends (VIRQ_* of xen.h). */
import { type DomainTable, type DomainView, VIRQS, XEN_WORDS } from "./domain-pages.js";
import { PORT_STATE, refused, setPending, takePort } from "./port-table.js";

export const VIRQ = { timer: 0, debug: 1, console: 2, domExc: 3, conRing: 8, enomem: 12 } as const;

/** One port of the whole domain, not one of each vcpu; all of them are Dom0's. */
const GLOBAL: ReadonlySet<number> = new Set([VIRQ.console, VIRQ.domExc, VIRQ.conRing, VIRQ.enomem]);
/** VIRQ_XENOPROF and the architecture's own are not offered. */
const LOCAL: ReadonlySet<number> = new Set([VIRQ.timer, VIRQ.debug]);

/** A new port for the VIRQ. Throws and changes nothing: EINVAL for no VIRQ, EPERM for Dom0's, EEXIST, ENOSPC. */
export function bindVirq(own: DomainView, virq: number, vcpu: number): number {
  if (!GLOBAL.has(virq) && !LOCAL.has(virq)) throw refused("EINVAL", `${virq} is no VIRQ, allowed 0..${VIRQS - 1}`);
  if (GLOBAL.has(virq) && own.domid !== 0) throw refused("EPERM", `VIRQ ${virq} is for Dom0 alone`);
  return own.locked(() => {
    const slot = virqSlot(virq, vcpu);
    if (own.xen[slot] !== 0) throw refused("EEXIST", `VIRQ ${virq} has port ${own.xen[slot]} already`);
    const port = takePort(own, PORT_STATE.virq, virq, vcpu);
    Atomics.store(own.xen, slot, port);
    return port;
  });
}

/** Dropped while nobody has bound it. */
export function raiseVirq(domain: DomainView, virq: number, vcpu = 0): void {
  const port = Atomics.load(domain.xen, virqSlot(virq, vcpu));
  if (port !== 0) setPending(domain, port);
}

/** Tells Dom0 that the state of some domain changed; it looks itself which. */
export function raiseDomainException(domains: DomainTable): void {
  const dom0 = domains.get(0);
  if (dom0) raiseVirq(dom0, VIRQ.domExc);
}

function virqSlot(virq: number, vcpu: number): number {
  return XEN_WORDS.virqs + (GLOBAL.has(virq) ? 0 : vcpu) * VIRQS + virq;
}
