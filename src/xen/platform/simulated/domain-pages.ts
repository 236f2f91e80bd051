/**
 * The shared memory of one simulated domain: what its guest sees, and what only the hypervisor sees.
 *
 *   memory      the guest's pages, frame 0 first
 *   sharedInfo  shared_info (xen.h, 64-bit): vcpu_info, evtchn_pending, evtchn_mask
 *   grantTable  grant_entry_v1[] (grant_table.h)
 *   xen         hypervisor-private words: life, doorbells, ports, VIRQs, pins of each grant entry, maptrack
 *
 * A guest's thread holds all four of its own and `sharedInfo` and `xen` of the others (to send events); its drivers
 * get none of the latter, only a platform that hides them. Dom0's threads, which run the hypervisor's map operations,
 * hold everything of everybody.
 */
import { pageMemory } from "../../../os/page-memory.js";
import { PAGE_SIZE } from "../platform.js";

/** Grant entries of version 1 in one frame. */
export const ENTRIES_PER_FRAME = PAGE_SIZE / 8;
/** Grant frames of a domain: one at first, at most 64 (Xen's gnttab_max_frames). */
export const INITIAL_GRANT_FRAMES = 1;
export const GRANT_FRAMES = 64;
export const GRANT_ENTRIES = GRANT_FRAMES * ENTRIES_PER_FRAME;
/** Maptrack of a domain: what it may have mapped of others (Xen's gnttab_max_maptrack_frames, entries of 16 bytes). */
export const MAPTRACK_FRAMES = 1024;
export const HANDLES_PER_FRAME = PAGE_SIZE / 16;
export const MAX_HANDLES = MAPTRACK_FRAMES * HANDLES_PER_FRAME;
/** Frames with a fixed use, 0 as a null page; then those that the domain hands out itself. */
export const CONSOLE_FRAME = 2;
export const XENSTORE_FRAME = 1;
export const FIRST_FREE_FRAME = 3;
/** Ports of a domain; 0 is never used (Xen's default limit for a guest is 1023). */
export const MAX_PORTS = 1024;
/** XEN_LEGACY_MAX_VCPUS of xen.h. */
export const MAX_VCPUS = 32;
/** NR_VIRQS of xen.h. */
export const VIRQS = 24;

const DOORBELLS = 32;
const PORTS = DOORBELLS + MAX_VCPUS;
const VIRQ_PORTS = PORTS + MAX_PORTS * 4;
const PINS = VIRQ_PORTS + MAX_VCPUS * VIRQS;
const MAPTRACK_OWNERS = PINS + GRANT_ENTRIES;
const MAPTRACK = MAPTRACK_OWNERS + MAPTRACK_FRAMES;

/** Word offsets within `xen`. */
export const XEN_WORDS = {
  /** 0, or the vcpu that changes the domain's tables (`vcpuId`). */
  lock: 0,
  /** 1 while the domain lives, 0 once it is being destroyed. */
  alive: 1,
  /** 0, or the reason that the domain shut down with, plus 1. */
  shutdown: 2,
  /** How many pauses wait for their unpause. */
  paused: 3,
  /** Frames that its grant table has now. */
  grantFrames: 4,
  /** Bit v: vcpu v is in a poll, so that masked events wake it too. */
  polling: 5,
  doorbells: DOORBELLS,
  /** Rows of four words, one for each port. */
  ports: PORTS,
  /** For each vcpu the port of each VIRQ; global ones are vcpu 0's. */
  virqs: VIRQ_PORTS,
  /** One word for each grant entry. */
  pins: PINS,
  /** For each maptrack frame 0, or whose handles these are and for mapping whose pages. */
  maptrackOwners: MAPTRACK_OWNERS,
  /** One word for each handle. */
  maptrack: MAPTRACK,
  size: MAPTRACK + MAX_HANDLES,
} as const;

/** Byte offsets within `sharedInfo` (struct shared_info, x86_64). */
export const SHARED_INFO = {
  vcpuInfoSize: 64,
  upcallPending: 0,
  pendingSel: 8,
  evtchnPending: 2048,
  evtchnMask: 2560,
  size: 4096,
} as const;

/** What is handed between threads; the first two are missing where the receiver may not see them. */
export interface DomainPages {
  readonly domid: number;
  readonly memory?: SharedArrayBuffer;
  readonly grantTable?: SharedArrayBuffer;
  readonly sharedInfo: SharedArrayBuffer;
  readonly xen: SharedArrayBuffer;
}

/** Makes a new domain's memory. `memorySize` in bytes, a multiple of 4096. */
export function createDomainPages(domid: number, memorySize: number): Required<DomainPages> {
  const pages = {
    domid,
    memory: pageMemory(memorySize), // a disk's direct reads go straight into the guest's pages
    grantTable: new SharedArrayBuffer(GRANT_FRAMES * PAGE_SIZE),
    sharedInfo: new SharedArrayBuffer(SHARED_INFO.size),
    xen: new SharedArrayBuffer(XEN_WORDS.size * 4),
  };
  const xen = new Int32Array(pages.xen);
  Atomics.store(xen, XEN_WORDS.grantFrames, INITIAL_GRANT_FRAMES);
  Atomics.store(xen, XEN_WORDS.alive, 1);
  return pages;
}

/** What another guest's thread may hold of a domain. */
export function peerView(pages: DomainPages): DomainPages {
  return { domid: pages.domid, sharedInfo: pages.sharedInfo, xen: pages.xen };
}

/** Who holds a lock: a vcpu of a domain, never 0. */
export function vcpuId(domid: number, vcpu: number): number {
  return domid * MAX_VCPUS + vcpu + 1;
}

/** The main thread of Dom0, where it acts for the hypervisor itself. */
const HYPERVISOR = -1;

/** Typed views on one domain's pages, made once per thread. */
export class DomainView {
  readonly domid: number;
  readonly memory: SharedArrayBuffer | undefined;
  /** Pages of `memory`. */
  readonly frames: number;
  readonly info: Int32Array;
  readonly infoBytes: Uint8Array;
  readonly xen: Int32Array;
  /** The grant table's words, where this thread may see them. */
  readonly entries: Int32Array | undefined;
  /** This thread's free handles for mapping pages of this domain. */
  readonly freeHandles: number[] = [];
  /** Views on single frames of `memory`, made when first mapped. */
  readonly pages: (Uint8Array | undefined)[] = [];
  readonly #user: number;

  /** `user`: the vcpu whose thread this is, for the locks that it takes. */
  constructor(pages: DomainPages, user = HYPERVISOR) {
    this.domid = pages.domid;
    this.memory = pages.memory;
    this.frames = (pages.memory?.byteLength ?? 0) / PAGE_SIZE;
    this.entries = pages.grantTable && new Int32Array(pages.grantTable);
    this.info = new Int32Array(pages.sharedInfo);
    this.infoBytes = new Uint8Array(pages.sharedInfo);
    this.xen = new Int32Array(pages.xen);
    this.#user = user;
  }

  get alive(): boolean {
    return Atomics.load(this.xen, XEN_WORDS.alive) === 1;
  }

  /** Runs `critical` while no other thread changes this domain's tables. Held for a few instructions only. */
  locked<T>(critical: () => T): T {
    for (;;) {
      const holder = Atomics.compareExchange(this.xen, XEN_WORDS.lock, 0, this.#user);
      if (holder === 0) break;
      Atomics.wait(this.xen, XEN_WORDS.lock, holder, 1);
    }
    try {
      return critical();
    } finally {
      this.#unlock();
    }
  }

  /** Opens the lock that a thread which is no more had taken: the users are `first` to `last`. */
  breakLock(first: number, last: number): void {
    const holder = Atomics.load(this.xen, XEN_WORDS.lock);
    if (holder >= first && holder <= last) this.#unlock();
  }

  #unlock(): void {
    Atomics.store(this.xen, XEN_WORDS.lock, 0);
    Atomics.notify(this.xen, XEN_WORDS.lock, 1);
  }
}

/** Locks both, the lower domid first: two domains that bind to each other never wait in a circle. */
export function lockedBoth<T>(one: DomainView, other: DomainView, critical: () => T): T {
  if (one.domid === other.domid) return one.locked(critical);
  const [first, second] = one.domid < other.domid ? [one, other] : [other, one];
  return first.locked(() => second.locked(critical));
}

/** The domains that one thread knows. */
export type DomainTable = Map<number, DomainView>;
