/**
 * All that drivers see of a hypervisor: grant pages, map granted pages, bind and notify event channels.
 * Here the simulated hypervisor implements it (`simulated/`); a real Dom0's gntdev and evtchn can stand beside it.
 * Nothing above this file may assume shared memory between the peers, one process, or a friendly peer.
 */

import type { RingWords } from "./ring-words.js";

export const PAGE_SIZE = 4096;
/** The grant reference by which every domain's xenstore page is Dom0's to map (grant_table.h). */
export const GNTTAB_RESERVED_XENSTORE = 1;

/** Status of a grant operation (GNTST_* of grant_table.h): 0 or a negative number. */
export const GNTST = {
  okay: 0,
  general_error: -1,
  bad_domain: -2,
  bad_gntref: -3,
  bad_handle: -4,
  bad_virt_addr: -5,
  bad_dev_addr: -6,
  no_device_space: -7,
  permission_denied: -8,
  bad_page: -9,
  bad_copy_arg: -10,
  address_too_big: -11,
  eagain: -12,
  no_space: -13,
} as const;

/** Pages of this domain's own memory that can be granted. `bytes` covers all of them, contiguously. */
export interface OwnPages {
  readonly firstFrame: number;
  readonly count: number;
  readonly bytes: Uint8Array;
}

/** This domain as a granter: its own pages and its own grant table. */
export interface GrantTable {
  /** Zeroed, contiguous pages. Throws `NO_SPACE` when this domain's memory is used up. */
  allocatePages(count: number): OwnPages;
  freePages(pages: OwnPages): void;
  /** Takes a free grant reference and lets `domid` map `frame`. Throws `NO_SPACE` when the table is full. */
  grantAccess(domid: number, frame: number, readonly: boolean): number;
  /** Takes the grant back. False, and nothing changed, while the peer still has the page mapped. */
  endAccess(ref: number): boolean;
  /** Reserves a reference for repeated use with `setAccess` and `endAccessKeepRef`. */
  reserveRef(): number;
  releaseRef(ref: number): void;
  setAccess(ref: number, domid: number, frame: number, readonly: boolean): void;
  clearAccess(ref: number): boolean;
}

/** A ring's pages, mapped writable. */
export interface MappedRing {
  readonly words: RingWords;
  unmap(): void;
}

/** One end of a copy: this domain's own bytes, or bytes `offset` and on of one page that `domid` granted to it. */
export type CopyEnd = Uint8Array | { readonly domid: number; readonly ref: number; readonly offset: number };

/** `length` bytes, at most a page; own bytes beyond them stay as they are. At least one end is a grant (gntdev.h). */
export interface GrantCopy {
  readonly source: CopyEnd;
  readonly dest: CopyEnd;
  readonly length: number;
}

/** This domain as a mapper of pages that others granted to it. */
export interface ForeignPages {
  /** A handle (0 or above), or a negative GNTST status; a failed map leaves nothing behind. */
  map(domid: number, ref: number, writable: boolean): number;
  /** Maps the pages of a ring, in this order: all of them, or none and the negative GNTST status of the first that failed. */
  mapRing(domid: number, refs: readonly number[]): MappedRing | number;
  /** The mapped page: the same 4096 bytes the granter sees. Not to be used after `unmap`. */
  page(handle: number): Uint8Array;
  /** GNTST status. A wrong or repeated handle is `bad_handle` and changes nothing. */
  unmap(handle: number): number;
  /**
   * Copies without leaving anything mapped (GNTTABOP_copy); the GNTST status of each, in their order, none depends on another.
   * `bad_copy_arg`, and nothing copied, where an end is shorter than `length` or leaves its page. No bytes are always `okay`.
   */
  copy(copies: readonly GrantCopy[]): number[];
  /** Pages mapped now; back at its old value when everything was released. */
  readonly mapped: number;
}

/** Event channels of one vcpu. Ports are numbers from 1. */
export interface EventChannels {
  /** A port that `remoteDomid` may bind. Throws `NO_SPACE` when all ports are in use. */
  allocUnbound(remoteDomid: number): number;
  /** Binds to the peer's unbound port; the new local port is pending once, at once. Throws `PROTOCOL` when the peer's port is not ours to bind. */
  bindInterdomain(remoteDomid: number, remotePort: number): number;
  /** Handler for events of a local port. Runs inside `dispatch`. */
  listen(port: number, handler: () => void): void;
  /** Throws `PROTOCOL` on a closed port; an event to an unbound port is dropped. */
  notify(port: number): void;
  /** The peer's end returns to unbound. Closing twice is harmless. */
  close(port: number): void;
}

/** The upcall side of one vcpu: what is pending, and how to wait for more. */
export interface Vcpu {
  /** Runs the handlers of all pending ports; returns how many ran. */
  dispatch(): number;
  /** The doorbell's present value: take it before `dispatch`, hand it to a wait after. */
  ticket(): number;
  /** True as soon as the doorbell differs from `ticket`, false when `spins` looks did not see it. */
  spin(ticket: number, spins: number): boolean;
  /** Blocks this thread until the doorbell differs from `ticket`. */
  wait(ticket: number, timeoutMs: number): void;
  /** The same without blocking. */
  waitAsync(ticket: number, timeoutMs: number): Promise<void>;
}

/** One domain's (or one of its vcpus') view of the hypervisor. */
export interface XenPlatform {
  readonly domid: number;
  readonly grants: GrantTable;
  readonly foreign: ForeignPages;
  readonly events: EventChannels;
  readonly vcpu: Vcpu;
}
