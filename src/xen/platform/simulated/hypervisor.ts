/**
 * The simulated hypervisor as Dom0's main thread uses it: domains come, run, shut down, and go (domctl and what Xen itself
 * does about it in xen/common/domain.c). Nothing else holds one, so a guest has no way to ask for any of this.
 *
 *   create -> paused -> running -> shutdown(reason) -> destroy -> dying while others map its pages -> gone
 *
 * VIRQ_DOM_EXC is raised for Dom0 at shutdown, at destroy and when a dying domain is gone. Threads are the caller's:
 * it starts one for each vcpu, holds it while the domain is paused, and ends it before `destroy` or `releaseVcpu`.
 */
import { DiskError } from "../../../errors.js";
import {
  CONSOLE_FRAME,
  createDomainPages,
  type DomainPages,
  type DomainTable,
  DomainView,
  MAX_VCPUS,
  XEN_WORDS,
  XENSTORE_FRAME,
} from "./domain-pages.js";
import { countPins, GTF } from "./grant-entry.js";
import { shutdownDomain } from "./hypercalls.js";
import { forgetGranter, releaseMappings } from "./maptrack.js";
import { type SimulatedPlatform, simulatedPlatform } from "./platform.js";
import { closeAllPorts } from "./port-table.js";
import { raiseDomainException, VIRQ } from "./virq.js";

/** DOMID_FIRST_RESERVED of xen.h. */
const FIRST_RESERVED_DOMID = 0x7ff0;
/** Dom0's main thread; its lower vcpus are its drivers' threads. */
const MAIN_VCPU = MAX_VCPUS - 1;
/** GNTTAB_RESERVED_CONSOLE and _XENSTORE of grant_table.h. */
export const CONSOLE_REF = 0;
export const XENSTORE_REF = 1;

export interface DomainStatus {
  readonly domid: number;
  readonly state: "paused" | "running" | "shutdown" | "dying";
  /** SHUTDOWN_*, once the domain has shut down. */
  readonly shutdownReason?: number;
  /** Bytes. */
  readonly memory: number;
  /** Mappings that others hold of its pages. */
  readonly foreignMaps: number;
}

/** A new domain: its memory, and the ports that its builder made in it for Dom0 to bind. */
export interface CreatedDomain {
  readonly pages: Required<DomainPages>;
  readonly xenstorePort: number;
  readonly consolePort: number;
}

export interface DomainChange {
  readonly domid: number;
  readonly state: "shutdown" | "dying" | "gone";
  readonly shutdownReason?: number;
}

interface Domain {
  readonly pages: Required<DomainPages>;
  readonly view: DomainView;
  /** The last change that Dom0 was told. */
  told?: DomainChange["state"];
}

export class Hypervisor {
  readonly dom0: Required<DomainPages>;
  /** Dom0's main thread as a vcpu. Who runs its `dispatch` in a loop hears of VIRQs and may bind ports of its own. */
  readonly platform: SimulatedPlatform;
  readonly #table: DomainTable = new Map();
  readonly #domains = new Map<number, Domain>();
  readonly #listeners: ((change: DomainChange) => void)[] = [];
  #nextDomid = 1;

  /** `dom0Memory` in bytes. */
  constructor(dom0Memory: number) {
    this.dom0 = createDomainPages(0, dom0Memory);
    this.platform = simulatedPlatform(this.dom0, MAIN_VCPU, this.#table);
    this.#domains.set(0, { pages: this.dom0, view: this.#table.get(0)! });
    this.platform.events.listen(this.platform.hypercalls.bindVirq(VIRQ.domExc), () => this.#tellChanges());
  }

  /** `memory` in bytes. The domain is paused. Throws `NO_SPACE` when all ids are in use. */
  create(memory: number): CreatedDomain {
    const domid = this.#takeDomid();
    const pages = createDomainPages(domid, memory);
    const view = new DomainView(pages);
    Atomics.store(view.xen, XEN_WORDS.paused, 1);
    for (const [ref, frame] of [
      [CONSOLE_REF, CONSOLE_FRAME],
      [XENSTORE_REF, XENSTORE_FRAME],
    ] as const) {
      view.entries![ref * 2 + 1] = frame;
      view.entries![ref * 2] = GTF.permitAccess; // for domain 0
    }
    this.#domains.set(domid, { pages, view });
    this.#table.set(domid, view);
    const { hypercalls } = this.platform;
    return {
      pages,
      xenstorePort: hypercalls.allocUnbound(0, domid),
      consolePort: hypercalls.allocUnbound(0, domid),
    };
  }

  /** Undefined for one that never was or is gone; a dying one still is. */
  domain(domid: number): DomainStatus | undefined {
    const domain = this.#domains.get(domid);
    return domain && status(domain);
  }

  /** Whether there is such a domain and it is not dying. */
  isAlive(domid: number): boolean {
    return this.#domains.get(domid)?.view.alive ?? false;
  }

  /** All domains by their ids, dying ones too. */
  domains(): DomainStatus[] {
    return [...this.#domains.values()].map(status).sort((a, b) => a.domid - b.domid);
  }

  pages(domid: number): Required<DomainPages> | undefined {
    return this.#domains.get(domid)?.pages;
  }

  /** Pauses nest: as many unpauses let the domain run again. */
  pause(domid: number): void {
    Atomics.add(this.#living(domid, "pause").view.xen, XEN_WORDS.paused, 1);
  }

  /** Returns whether the domain runs now. */
  unpause(domid: number): boolean {
    const { xen } = this.#living(domid, "unpause").view;
    const paused = Atomics.load(xen, XEN_WORDS.paused);
    if (paused > 0) Atomics.store(xen, XEN_WORDS.paused, paused - 1); // only this thread changes it
    return paused <= 1;
  }

  /** Notes that the domain shut down, with a reason of `SHUTDOWN`; the first reason stands. */
  shutdown(domid: number, reason: number): void {
    shutdownDomain(this.#living(domid, "shut down").view, reason);
    raiseDomainException(this.#table);
  }

  /** Takes a shutdown back, as when a suspended domain goes on. */
  resume(domid: number): void {
    const domain = this.#living(domid, "resume");
    Atomics.store(domain.view.xen, XEN_WORDS.shutdown, 0);
    delete domain.told;
  }

  /**
   * Closes the domain's event channels and releases what it has mapped. Its id and memory stay until nobody has any of its
   * pages mapped. Destroying a dying domain again changes nothing.
   */
  destroy(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domid === 0 || !domain) this.#living(domid, "destroy");
    if (!domain?.view.alive) return;
    Atomics.store(domain.view.xen, XEN_WORDS.alive, 0); // from here on nobody maps or binds anything of it
    releaseMappings(this.#table, domain.view);
    closeAllPorts(this.#table, domain.view);
    raiseDomainException(this.#table);
  }

  /** The vcpu's thread has ended without cleaning up: its mappings, ports and locks are released. Another may take its place. */
  releaseVcpu(domid: number, vcpu: number): void {
    const domain = this.#domains.get(domid);
    if (!domain?.view.alive) return;
    releaseMappings(this.#table, domain.view, vcpu);
    closeAllPorts(this.#table, domain.view, vcpu);
    raiseDomainException(this.#table); // a dying domain's last mapping may have been among them
  }

  /** Told each change once, out of `platform.vcpu.dispatch` (VIRQ_DOM_EXC). */
  onChange(listener: (change: DomainChange) => void): void {
    this.#listeners.push(listener);
  }

  #tellChanges(): void {
    for (const [domid, domain] of this.#domains) {
      const { state, shutdownReason } = status(domain);
      if (state !== "shutdown" && state !== "dying") continue;
      if (domain.told === state) continue;
      domain.told = state;
      this.#tell({ domid, state, ...(shutdownReason === undefined ? {} : { shutdownReason }) });
    }
    this.#buryDead();
  }

  #buryDead(): void {
    for (const [domid, domain] of this.#domains) {
      if (domain.view.alive || domain.told !== "dying" || countPins(domain.view) > 0) continue;
      this.#domains.delete(domid);
      this.#table.delete(domid);
      for (const mapper of this.#table.values()) forgetGranter(mapper, domid);
      this.#tell({ domid, state: "gone" });
    }
  }

  #tell(change: DomainChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  #living(domid: number, verb: string): Domain {
    const domain = this.#domains.get(domid);
    if (domid === 0) throw new DiskError("DENIED", `Cannot ${verb} domain 0: it is the host itself`);
    if (!domain?.view.alive)
      throw new DiskError("NOT_FOUND", `Cannot ${verb} domain ${domid}: there is none of that id`);
    return domain;
  }

  /** Ids are taken in turn, so that one is not used again soon after its domain has gone. */
  #takeDomid(): number {
    for (let tried = 1; tried < FIRST_RESERVED_DOMID; tried++) {
      const domid = this.#nextDomid;
      this.#nextDomid = domid + 1 < FIRST_RESERVED_DOMID ? domid + 1 : 1;
      if (!this.#domains.has(domid)) return domid;
    }
    throw new DiskError("NO_SPACE", "Cannot create a domain: all domain ids are in use");
  }
}

function status({ pages, view }: Domain): DomainStatus {
  const shutdown = Atomics.load(view.xen, XEN_WORDS.shutdown);
  const state = !view.alive
    ? "dying"
    : shutdown !== 0
      ? "shutdown"
      : Atomics.load(view.xen, XEN_WORDS.paused) > 0
        ? "paused"
        : "running";
  return {
    domid: pages.domid,
    state,
    ...(shutdown === 0 ? {} : { shutdownReason: shutdown - 1 }),
    memory: pages.memory.byteLength,
    foreignMaps: countPins(view),
  };
}
