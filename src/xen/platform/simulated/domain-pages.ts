/**
 * The shared memory of one simulated domain: what its guest sees, and what only the hypervisor sees.
 *
 *   memory      the guest's pages, frame 0 first
 *   sharedInfo  shared_info (xen.h, 64-bit): vcpu_info, evtchn_pending, evtchn_mask
 *   grantTable  grant_entry_v1[] (grant_table.h)
 *   xen         hypervisor-private words: doorbells, port table, pins of each grant entry
 *
 * A guest's thread holds all four of its own and `sharedInfo` and `xen` of the others (to send events);
 * Dom0's threads, which run the hypervisor's map operations, hold everything of everybody.
 */
import { PAGE_SIZE } from "../platform.js";

/** Default grant frames of a domain: 64 pages of 512 entries of version 1 (Xen's gnttab_max_frames). */
export const GRANT_FRAMES = 64;
export const GRANT_ENTRIES = GRANT_FRAMES * (PAGE_SIZE / 8);
/** Ports of a domain; 0 is never used (Xen's default limit for a guest is 1023). */
export const MAX_PORTS = 1024;
/** XEN_LEGACY_MAX_VCPUS of xen.h. */
export const MAX_VCPUS = 32;

/** Word offsets within `xen`. */
export const XEN_WORDS = {
  lock: 0,
  /** 1 while the domain lives, 0 once it is being destroyed. */
  alive: 1,
  doorbells: 32,
  ports: 64,
  pins: 64 + MAX_PORTS * 4,
  size: 64 + MAX_PORTS * 4 + GRANT_ENTRIES,
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
    memory: new SharedArrayBuffer(memorySize),
    grantTable: new SharedArrayBuffer(GRANT_FRAMES * PAGE_SIZE),
    sharedInfo: new SharedArrayBuffer(SHARED_INFO.size),
    xen: new SharedArrayBuffer(XEN_WORDS.size * 4),
  };
  Atomics.store(new Int32Array(pages.xen), XEN_WORDS.alive, 1);
  return pages;
}

/** What another guest's thread may hold of a domain. */
export function peerView(pages: DomainPages): DomainPages {
  return { domid: pages.domid, sharedInfo: pages.sharedInfo, xen: pages.xen };
}

/** Typed views on one domain's pages, made once per thread. */
export class DomainView {
  readonly domid: number;
  readonly memory: SharedArrayBuffer | undefined;
  readonly grantTable: SharedArrayBuffer | undefined;
  readonly info: Int32Array;
  readonly infoBytes: Uint8Array;
  readonly xen: Int32Array;
  /** The grant table's words, once a map operation has needed them. */
  entries: Int32Array | undefined;

  constructor(pages: DomainPages) {
    this.domid = pages.domid;
    this.memory = pages.memory;
    this.grantTable = pages.grantTable;
    this.info = new Int32Array(pages.sharedInfo);
    this.infoBytes = new Uint8Array(pages.sharedInfo);
    this.xen = new Int32Array(pages.xen);
  }

  get alive(): boolean {
    return Atomics.load(this.xen, XEN_WORDS.alive) === 1;
  }

  /** Runs `critical` while no other thread changes this domain's tables. Held for a few instructions only. */
  locked<T>(critical: () => T): T {
    while (Atomics.compareExchange(this.xen, XEN_WORDS.lock, 0, 1) !== 0) Atomics.wait(this.xen, XEN_WORDS.lock, 1, 1);
    try {
      return critical();
    } finally {
      Atomics.store(this.xen, XEN_WORDS.lock, 0);
      Atomics.notify(this.xen, XEN_WORDS.lock, 1);
    }
  }
}

/** The domains that one thread knows. */
export type DomainTable = Map<number, DomainView>;
