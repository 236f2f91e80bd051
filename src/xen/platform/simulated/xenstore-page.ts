/** A domain's page for xenstore, granted to Dom0 by its reserved reference, and the event channel that goes with it. */
import { GNTTAB_RESERVED_XENSTORE, PAGE_SIZE } from "../platform.js";
import { RingWords } from "../ring-words.js";
import { type DomainPages, XENSTORE_FRAME } from "./domain-pages.js";
import { simulatedPlatform } from "./platform.js";

/** What INTRODUCE names, and what the domain finds in its start info (store_mfn, store_evtchn). */
export interface XenstorePage {
  readonly frame: number;
  /** The domain's port, for Dom0 to bind; its events go to the domain's vcpu 0. */
  readonly port: number;
}

/** For a domain that `Hypervisor.create` has not prepared: Domain-0. Before its first instruction. */
export function createXenstorePage(pages: Required<DomainPages>): XenstorePage {
  const domain = simulatedPlatform(pages, 0);
  domain.grants.setAccess(GNTTAB_RESERVED_XENSTORE, 0, XENSTORE_FRAME, false);
  return { frame: XENSTORE_FRAME, port: domain.events.allocUnbound(0) };
}

/** The page as the domain itself reaches it. */
export function ownXenstorePage(own: DomainPages): RingWords {
  if (!own.memory) throw new TypeError("a domain's own pages hold its memory");
  return new RingWords([new Uint8Array(own.memory, XENSTORE_FRAME * PAGE_SIZE, PAGE_SIZE)]);
}
