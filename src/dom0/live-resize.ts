/** The daemon's part of a live resize: the thread changes the file, blkback tells the frontend, the guest looks. */
import { DiskError } from "../errors.js";
import type { Blkback } from "../xen/blkback.js";
import type { Vdev } from "../xen/blkif/vdev.js";
import type { ResizeRequest } from "./api-types.js";
import type { BackendPool } from "./backend-pool.js";
import type { Guest } from "./guest.js";

export interface ResizeHost {
  readonly pool: BackendPool;
  readonly blkback: Blkback;
  readonly guest: Guest;
  /** The guest's devices by their numbers. */
  readonly vbds: ReadonlyMap<number, { readonly vdev: Vdev }>;
  /** What the guest may take to look; default 10 s. */
  readonly timeoutMs: number | undefined;
}

const LOOK_MS = 5;

/** Resolves with the device's number when the guest, if one is connected, sees the new size; with `dryRun` nothing changes. */
export async function resizeVbd(
  { pool, blkback, guest, vbds, timeoutMs = 10_000 }: ResizeHost,
  vdev: string,
  options: Omit<ResizeRequest, "domain">,
): Promise<number> {
  const id = { domid: guest.domid, devid: findVbd(vbds, guest.name, vdev) };
  const { size } = await pool.resize(id, options);
  if (options.dryRun || guest.crashed || !pool.rings(id)) return id.devid; // nobody looks
  blkback.resized(id);
  for (let waited = 0; (await guest.describe(id.devid))?.size !== size; waited += LOOK_MS) {
    if (waited > timeoutMs)
      throw new DiskError(
        "IO",
        `Cannot show ${guest.name} the new size of ${vdev}: the file has ${size} bytes now, the guest did not look within ${timeoutMs / 1000} s`,
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return id.devid;
}

function findVbd(vbds: ResizeHost["vbds"], domain: string, name: string): number {
  const subject = `Cannot resize ${name} of ${domain}`;
  for (const [devid, { vdev }] of vbds) if (vdev.name === name) return devid;
  const whole = name.replace(/\d+$/, "");
  if ([...vbds.values()].some(({ vdev }) => vdev.name === whole))
    throw new DiskError("UNSUPPORTED", `${subject}: it is a partition of ${whole}, 'xvd part resize' does that`);
  throw new DiskError("NOT_FOUND", `${subject}: no such device is attached`);
}
