/**
 * Save and restore: a domain's end here, and its second beginning.
 *
 *   suspend the guest -> what its disks' backends never answered -> write the file -> give the file its name -> end the domain
 *
 * Until the file has its name the domain can go on, and does after every failure.
 */

import { DiskError } from "../errors.js";
import { openFile } from "../os/file.js";
import { fileStamp, mayBeDisk } from "../os/paths.js";
import { createStaged } from "../os/staged.js";
import { parseDiskName } from "../stack/disk-name.js";
import { domainPath } from "../xen/blkif/keys.js";
import type { XenstoreClient } from "../xen/xenstore/client.js";
import type { AttachRequest, DomainInfo, RestoreRequest, SaveRequest, SaveResult } from "./api-types.js";
import { createConfiguredDomain } from "./configured-domain.js";
import { DEFAULT_MEMORY, type Domain, type Domains } from "./domains.js";
import type { Host } from "./host.js";
import type { Lifecycle } from "./lifecycle.js";
import {
  type DiskStamp,
  decodeSaved,
  encodeSaved,
  GUEST_DIRS,
  isSaved,
  MAX_SAVED,
  type SavedDomain,
} from "./saved-domain.js";
import { SAVED_DOMAIN } from "./saved-layout.js";

/** How the outstanding requests of a disk ended, in their order: an error's text or null. */
export interface DiskStatuses {
  readonly devid: number;
  readonly statuses: readonly (string | null)[];
}

export interface SavesOptions {
  readonly host: Host;
  readonly store: XenstoreClient;
  readonly domains: Domains;
  readonly lifecycle: Lifecycle;
  onError(message: string): void;
}

export class Saves {
  readonly #options: SavesOptions;

  constructor(options: SavesOptions) {
    this.#options = options;
  }

  /** `signal` aborted before the file has its name: the domain goes on and there is no file. */
  async save(which: string, request: SaveRequest, signal?: AbortSignal): Promise<SaveResult> {
    const domain = this.#options.domains.findGuest(which, "save");
    return domain.exclusively("save", "being saved", async () => {
      domain.needRunning("save");
      const staged = await createStaged(request.file, { force: request.force ?? false, private: true });
      try {
        return await this.#saveTo(staged, domain, request, signal);
      } catch (error) {
        await staged.abort();
        throw error;
      }
    });
  }

  /** The same domain with its disks under a new id. On failure nothing of it is left, and the file is as it was. */
  async restore({ file, force = false, paused = false }: RestoreRequest): Promise<DomainInfo> {
    const saved = decodeSaved(await readSaved(file), JSON.stringify(file));
    if (!force) refuseChanged(saved, file);
    const { domain, statuses } = await this.begin(saved);
    const failed = statuses.flatMap((disk) => disk.statuses).filter((status) => status !== null);
    if (failed.length > 0) {
      await this.#options.lifecycle.end(domain);
      throw new DiskError(
        "IO",
        `Cannot restore ${JSON.stringify(file)}: ${failed.length} outstanding requests failed, ${failed[0]}; everything is taken back`,
      );
    }
    if (paused) await this.#options.lifecycle.pause(String(domain.domid));
    return this.#options.host.domain(String(domain.domid));
  }

  /** Makes the domain; its disks do what was outstanding before they have users. How that ended is for the caller to judge. */
  async begin(saved: SavedDomain): Promise<{ domain: Domain; statuses: DiskStatuses[] }> {
    const { host, store, domains, onError } = this.#options;
    const { name, config, disks, memory, outstanding, nodes } = saved;
    const { domid } = await createConfiguredDomain(host, { name, config, disks }, { memory, restored: outstanding });
    await writeGuestNodes(store, domid, nodes).catch((error: Error) => onError(`${name}: ${error.message}`));
    const domain = domains.find(String(domid), "restore");
    const statuses = outstanding.map(async ({ devid }) => ({
      devid,
      statuses: await domain.guest.restoredStatuses(devid),
    }));
    return { domain, statuses: await Promise.all(statuses) };
  }

  /** What the toolstack knows of a domain, before it is suspended. */
  async describe(domain: Domain): Promise<SavedDomain> {
    const disks = [...domain.vbds.values()].map(({ vdev, disk, access, options }) => ({
      disk,
      vdev: vdev.name,
      access,
      ...(options ? { options } : {}),
    }));
    return {
      name: domain.name,
      memory: domain.options.memory ?? DEFAULT_MEMORY,
      config: domain.options.config ?? {},
      disks,
      stamps: disks.map(stampOf),
      nodes: await readGuestNodes(this.#options.store, domain.domid),
      outstanding: [],
    };
  }

  /** Of a suspended domain: all of it. */
  async collect(domain: Domain): Promise<SavedDomain> {
    return { ...(await this.describe(domain)), outstanding: await domain.guest.outstanding() };
  }

  async #saveTo(
    staged: Awaited<ReturnType<typeof createStaged>>,
    domain: Domain,
    { file, leaveRunning = false }: SaveRequest,
    signal: AbortSignal | undefined,
  ): Promise<SaveResult> {
    const { lifecycle } = this.#options;
    await lifecycle.suspend(domain, "save");
    let bytes: Uint8Array;
    let saved: SavedDomain;
    try {
      await lifecycle.flush(domain);
      saved = await this.collect(domain);
      bytes = encodeSaved(saved);
      if (bytes.length > MAX_SAVED)
        throw new DiskError(
          "NO_SPACE",
          `Cannot save domain ${domain.name}: ${bytes.length} bytes, allowed ${MAX_SAVED}`,
        );
      await staged.file.write(0, bytes);
      signal?.throwIfAborted();
      await staged.commit();
    } catch (error) {
      throw await lifecycle.resumeAfter(domain, error);
    }
    if (leaveRunning) await lifecycle.resume(domain);
    else await lifecycle.end(domain);
    const outstanding = saved.outstanding.reduce((sum, { calls }) => sum + calls.length, 0);
    return { domain: domain.name, file, size: bytes.length, running: leaveRunning, outstanding };
  }
}

/** Looks at the signature before anything else: most files that are no saved domain are disks, which may be of any size. */
async function readSaved(path: string): Promise<Uint8Array> {
  const file = await openFile(path);
  const refuse = (found: string) => new DiskError("CORRUPT", `Cannot restore ${JSON.stringify(path)}: ${found}`);
  try {
    const head = new Uint8Array(Math.min(SAVED_DOMAIN.size, file.size));
    await file.read(0, head);
    if (!isSaved(head))
      throw refuse("it does not begin with XVDSAVED, allowed are files that 'xvd domain save' wrote (byte 0)");
    if (file.size > MAX_SAVED) throw refuse(`${file.size} bytes, allowed ${MAX_SAVED}`);
    const bytes = new Uint8Array(file.size);
    await file.read(0, bytes);
    return bytes;
  } finally {
    await file.close();
  }
}

/** Two guests that continue from one state on one disk would each destroy what the other wrote. */
function refuseChanged({ disks, stamps }: SavedDomain, file: string): void {
  for (const [i, disk] of disks.entries()) {
    const [before, now] = [stamps[i], stampOf(disk)];
    if (!before) continue;
    const key = now && (["size", "modified", "inode"] as const).find((each) => before[each] !== now[each]);
    if (now && !key) continue;
    const found = key ? `its ${WORDS[key]} is ${now[key]}, it was ${before[key]}` : "it is not there";
    throw new DiskError(
      "DENIED",
      `Cannot restore ${JSON.stringify(file)}: ${disk.disk} has changed since the domain was saved, ${found}; a guest that goes on from the saved state may destroy what was written since, allowed with --force`,
      { details: { disk: disk.disk, changed: key ?? "gone" } },
    );
  }
}

const WORDS = { size: "size", modified: "time of change", inode: "inode" } as const;

function stampOf({ disk }: AttachRequest): DiskStamp | null {
  const { base } = parseDiskName(disk, mayBeDisk);
  return base.kind === "file" ? fileStamp(base.path) : null;
}

async function readGuestNodes(store: XenstoreClient, domid: number): Promise<SavedDomain["nodes"]> {
  const home = domainPath(domid);
  const nodes: [string, string][] = [];
  const walk = async (path: string) => {
    for (const name of await store.directory(`${home}/${path}`).catch(() => [])) {
      const value = await store.readOrNull(`${home}/${path}/${name}`);
      if (value === null) continue; // it went away meanwhile
      nodes.push([`${path}/${name}`, value]);
      await walk(`${path}/${name}`);
    }
  };
  for (const dir of GUEST_DIRS) await walk(dir);
  return nodes;
}

/** They inherit the owner of the directory that holds them: the guest. */
async function writeGuestNodes(store: XenstoreClient, domid: number, nodes: SavedDomain["nodes"]): Promise<void> {
  for (const [path, value] of nodes) await store.write(`${domainPath(domid)}/${path}`, value);
}
