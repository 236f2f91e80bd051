/** One thread's view of the simulated hypervisor: which domain it belongs to, which vcpu it is, which domains it knows. */
import type { XenPlatform } from "../platform.js";
import { type DomainPages, type DomainTable, DomainView } from "./domain-pages.js";
import { SimulatedEvents } from "./event-channels.js";
import { SimulatedForeignPages, SimulatedGrantTable } from "./grant-table.js";

export interface SimulatedPlatform extends XenPlatform {
  /** This thread learns of a domain; `pages` holds what it may reach of it. */
  introduce(pages: DomainPages): void;
  /** The domain is gone: nothing of it can be mapped or bound any more. */
  forget(domid: number): void;
}

export function simulatedPlatform(own: DomainPages, vcpu: number): SimulatedPlatform {
  const view = new DomainView(own);
  const domains: DomainTable = new Map([[own.domid, view]]);
  const events = new SimulatedEvents(domains, view, vcpu);
  return {
    domid: own.domid,
    grants: new SimulatedGrantTable(view),
    foreign: new SimulatedForeignPages(domains, view),
    events,
    vcpu: events,
    introduce(pages) {
      if (!domains.has(pages.domid)) domains.set(pages.domid, new DomainView(pages));
    },
    forget(domid) {
      domains.delete(domid);
    },
  };
}
