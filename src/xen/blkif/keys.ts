/** Names of the xenstore keys of a vbd (blkif.h, xenbus.h), and where its directories lie. Field order is blkif.h's. */

export const XENBUS_STATE = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;

export type XenbusState = (typeof XENBUS_STATE)[keyof typeof XENBUS_STATE];

/** `Connected` for 4, for messages and listings. */
export function stateName(state: number): string {
  return Object.entries(XENBUS_STATE).find(([, number]) => number === state)?.[0] ?? "Unknown";
}

export function domainPath(domid: number): string {
  return `/local/domain/${domid}`;
}

export function frontendPath(domid: number, devid: number): string {
  return `${domainPath(domid)}/device/vbd/${devid}`;
}

export function backendPath(backendDomid: number, frontendDomid: number, devid: number): string {
  return `${domainPath(backendDomid)}/backend/vbd/${frontendDomid}/${devid}`;
}

/** The toolstack's own record, which no guest can write (XSA-175, XSA-178). */
export function libxlPath(frontendDomid: number, devid: number): string {
  return `/libxl/${frontendDomid}/device/vbd/${devid}`;
}

/** Keys of a frontend's directory that are ours and not Xen's: what its driver is to ask for, beside the defaults. */
export const WISH_KEYS = { queues: "xvdkit-queues", ringPageOrder: "xvdkit-ring-page-order" } as const;
