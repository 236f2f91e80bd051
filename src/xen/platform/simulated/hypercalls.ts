/**
 * Hypercalls of the simulated hypervisor that no driver needs: builders of domains, xenstored and tests make them.
 * What concerns another domain is Dom0's alone; anybody else is refused as Xen refuses it, with EPERM.
 */
import { DiskError } from "../../../errors.js";
import { GNTST } from "../platform.js";
import { type DomainTable, type DomainView, GRANT_FRAMES, MAX_PORTS, XEN_WORDS } from "./domain-pages.js";
import { setupTable } from "./grant-table.js";
import {
  allocUnbound,
  closeAllPorts,
  isPort,
  PEER,
  PORT_STATE,
  peerDomid,
  peerPort,
  refused,
  row,
  STATE,
  VCPU,
} from "./port-table.js";
import { bindVirq, raiseDomainException } from "./virq.js";

/** SHUTDOWN_* of sched.h. */
export const SHUTDOWN = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4, softReset: 5 } as const;

/** EVTCHNOP_status. */
export type PortStatus =
  | { readonly state: "closed" }
  | { readonly state: "unbound"; readonly vcpu: number; readonly domid: number }
  | { readonly state: "interdomain"; readonly vcpu: number; readonly domid: number; readonly port: number }
  | { readonly state: "virq"; readonly vcpu: number; readonly virq: number };

export class Hypercalls {
  readonly #domains: DomainTable;
  readonly #own: DomainView;
  readonly #vcpu: number;

  constructor(domains: DomainTable, own: DomainView, vcpu: number) {
    this.#domains = domains;
    this.#own = own;
    this.#vcpu = vcpu;
  }

  /** GNTTABOP_query_size. */
  querySize(domid = this.#own.domid): { status: number; frames: number; maxFrames: number } {
    const domain = this.#domains.get(domid);
    const status = this.#mayUse(domid) ? (domain?.alive ? GNTST.okay : GNTST.bad_domain) : GNTST.permission_denied;
    if (status !== GNTST.okay) return { status, frames: 0, maxFrames: 0 };
    return { status, frames: Atomics.load(domain!.xen, XEN_WORDS.grantFrames), maxFrames: GRANT_FRAMES };
  }

  /** GNTTABOP_setup_table: GNTST status. The table never shrinks. */
  setupTable(frames: number, domid = this.#own.domid): number {
    if (!this.#mayUse(domid)) return GNTST.permission_denied;
    const domain = this.#domains.get(domid);
    if (!domain?.alive) return GNTST.bad_domain;
    return setupTable(domain, frames) ? GNTST.okay : GNTST.general_error;
  }

  /** GNTTABOP_set_version: there is only version 1 here, so that no entry ever changes its layout under a mapper. */
  setVersion(version: number): void {
    if (version !== 1)
      throw new DiskError("UNSUPPORTED", `Cannot set the grant table's version: ${version}, allowed 1`, {
        details: { errno: version === 2 ? "ENOSYS" : "EINVAL" },
      });
  }

  getVersion(): number {
    return 1;
  }

  /** EVTCHNOP_alloc_unbound in `domid`'s table; for its vcpu 0 when that is another domain's. */
  allocUnbound(remoteDomid: number, domid = this.#own.domid): number {
    const domain = this.#allowed(domid);
    return allocUnbound(domain, remoteDomid, domain === this.#own ? this.#vcpu : 0);
  }

  /** EVTCHNOP_bind_virq: EPERM for Dom0's VIRQs, EEXIST, EINVAL, ENOSPC; on an error nothing has changed. */
  bindVirq(virq: number): number {
    return bindVirq(this.#own, virq, this.#vcpu);
  }

  portStatus(port: number, domid = this.#own.domid): PortStatus {
    const { xen } = this.#allowed(domid);
    if (!isPort(port)) throw refused("EINVAL", `port ${port} is no port, allowed 1..${MAX_PORTS - 1}`);
    const at = row(port);
    const vcpu = xen[at + VCPU]!;
    const peer = xen[at + PEER]!;
    switch (Atomics.load(xen, at + STATE)) {
      case PORT_STATE.unbound:
        return { state: "unbound", vcpu, domid: peerDomid(peer) };
      case PORT_STATE.interdomain:
        return { state: "interdomain", vcpu, domid: peerDomid(peer), port: peerPort(peer) };
      case PORT_STATE.virq:
        return { state: "virq", vcpu, virq: peer };
      default:
        return { state: "closed" };
    }
  }

  /** EVTCHNOP_reset: closes all ports of the domain. */
  reset(domid = this.#own.domid): void {
    closeAllPorts(this.#domains, this.#allowed(domid));
  }

  /** SCHEDOP_shutdown of this domain: Dom0 is told, and decides what becomes of it. The first reason stands. */
  shutdown(reason: number): void {
    shutdownDomain(this.#own, reason);
    raiseDomainException(this.#domains);
  }

  #mayUse(domid: number): boolean {
    return domid === this.#own.domid || this.#own.domid === 0;
  }

  #allowed(domid: number): DomainView {
    if (!this.#mayUse(domid)) throw refused("EPERM", `domain ${this.#own.domid} may not change domain ${domid}`);
    const domain = this.#domains.get(domid);
    if (!domain?.alive) throw refused("ESRCH", `there is no domain ${domid}`);
    return domain;
  }
}

/** Notes the reason; the first one stands. */
export function shutdownDomain(domain: DomainView, reason: number): void {
  if (!Object.values<number>(SHUTDOWN).includes(reason))
    throw new RangeError(`${reason} is no shutdown reason, allowed 0..${SHUTDOWN.softReset}`);
  Atomics.compareExchange(domain.xen, XEN_WORDS.shutdown, 0, reason + 1);
}
