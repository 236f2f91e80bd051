/** One thread's view of the simulated hypervisor: which domain it belongs to, which vcpu it is, which domains it knows. */
import type { XenPlatform } from "../platform.js";
import { type DomainPages, type DomainTable, DomainView, vcpuId } from "./domain-pages.js";
import { SimulatedEvents } from "./event-channels.js";
import { SimulatedForeignPages } from "./foreign-pages.js";
import { SimulatedGrantTable } from "./grant-table.js";
import { Hypercalls } from "./hypercalls.js";

export interface SimulatedPlatform extends XenPlatform {
  readonly events: SimulatedEvents;
  readonly hypercalls: Hypercalls;
  /** This thread learns of a domain; `pages` holds what it may reach of it. */
  introduce(pages: DomainPages): void;
  /** The domain is gone: nothing of it can be mapped or bound any more. */
  forget(domid: number): void;
}

/** `domains`, where the caller has them already, are those that this thread knows. */
export function simulatedPlatform(own: DomainPages, vcpu: number, domains: DomainTable = new Map()): SimulatedPlatform {
  const user = vcpuId(own.domid, vcpu);
  const view = domains.get(own.domid) ?? new DomainView(own, user);
  domains.set(own.domid, view);
  const events = new SimulatedEvents(domains, view, vcpu);
  return {
    domid: own.domid,
    grants: new SimulatedGrantTable(view),
    foreign: new SimulatedForeignPages(domains, view, vcpu),
    events,
    vcpu: events,
    hypercalls: new Hypercalls(domains, view, vcpu),
    introduce(pages) {
      if (!domains.has(pages.domid)) domains.set(pages.domid, new DomainView(pages, user));
    },
    forget(domid) {
      domains.delete(domid);
    },
  };
}
