/** A domain's vbds as `xl block-list` shows them. The list is the toolstack's own; state, port and ring are the guest's word. */
import { frontendPath } from "./blkif/keys.js";
import { vdevFromNumber } from "./blkif/vdev.js";
import type { XenstoreClient } from "./xenstore/client.js";

/** A number is -1 when its key is missing or no number, as with rings of several pages or queues. */
export interface BlockInfo {
  readonly vdev: string;
  readonly devid: number;
  readonly "backend-id": number;
  /** xl shows the frontend's domid here. */
  readonly handle: number;
  readonly state: number;
  readonly "event-channel": number;
  readonly "ring-ref": number;
  readonly "backend-path": string;
}

/** In the order of their numbers. A device that goes away meanwhile is left out. */
export async function blockDevices(store: XenstoreClient, domid: number): Promise<BlockInfo[]> {
  const root = `/libxl/${domid}/device/vbd`;
  const names = (await store.readOrNull(root)) === null ? [] : await store.directory(root);
  const devids = names.filter((name) => /^\d{1,10}$/.test(name)).map(Number);
  const found = await Promise.all(devids.sort((a, b) => a - b).map((devid) => describe(store, domid, devid)));
  return found.filter((info) => info !== null);
}

async function describe(store: XenstoreClient, domid: number, devid: number): Promise<BlockInfo | null> {
  const [backend, guest] = await Promise.all([
    store.readOrNull(`/libxl/${domid}/device/vbd/${devid}/backend`),
    store.readMany(frontendPath(domid, devid), ["state", "event-channel", "ring-ref"]),
  ]);
  if (backend === null) return null;
  return {
    vdev: vdevFromNumber(devid).name,
    devid,
    "backend-id": numberOr(/^\/local\/domain\/(\d+)\//.exec(backend)?.[1]),
    handle: domid,
    state: numberOr(guest.state),
    "event-channel": numberOr(guest["event-channel"]),
    "ring-ref": numberOr(guest["ring-ref"]),
    "backend-path": backend,
  };
}

function numberOr(text: string | null | undefined): number {
  return text && /^\d{1,10}$/.test(text) ? Number(text) : -1;
}
