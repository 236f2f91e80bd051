/**
 * Migration: a running domain moves to another daemon, with the requests that its disks had not answered.
 *
 *   here                                              there
 *   is there room for it?  ------------------------>  name, disks
 *   [copy the disks, round by round, while it runs]
 *   suspend the guest; its backends let go
 *   [last round; the copies get their names]
 *   flush and close the disks: no lock is ours now
 *   hand over its state  -------------------------->  open the disks, do what was outstanding, run   <- the commit
 *   answer clients for what was done there, and  <--  how it ended
 *   serve them from its new sockets until they leave
 *
 * Before the commit every failure opens the disks again and lets the guest go on. When the answer is lost the other host
 * is asked, and told not to begin if it has not: only its no, or its death and the disks' locks, lets the guest go on here.
 */
import { basename } from "node:path";
import { DiskError } from "../errors.js";
import { mayBeDisk, pathExists } from "../os/paths.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { parseDiskName } from "../stack/disk-name.js";
import type { Arrival, MigrateRequest, MigrateResult, MigrationProgress } from "./api-types.js";
import type { BackendPool } from "./backend-pool.js";
import { Dom0Client } from "./client.js";
import { findDaemon } from "./daemons.js";
import type { Domain, Domains } from "./domains.js";
import type { Lifecycle } from "./lifecycle.js";
import type { Saves } from "./save.js";
import { encodeSaved, type SavedDomain } from "./saved-domain.js";

export interface MigrationsOptions {
  readonly paths: XvdPaths;
  readonly pool: BackendPool;
  readonly domains: Domains;
  readonly lifecycle: Lifecycle;
  readonly saves: Saves;
  /** A text that no other call has returned. */
  newToken(): string;
  ensureDir(path: string): void;
  removeDir(path: string): void;
  onError(message: string): void;
}

/** A disk of the domain, and where the other host finds it. */
interface MovingDisk {
  readonly devid: number;
  readonly vdev: string;
  readonly from: string;
  readonly to: string;
  readonly copied: boolean;
}

/** Bytes; a round that leaves no more is followed by the last one. */
const SMALL_ROUND = 4 << 20;
const MOST_ROUNDS = 30;
const ASK_AGAIN_MS = 250;
const PROGRESS_MS = 200;

export class Migrations {
  readonly #options: MigrationsOptions;
  readonly #progress = new Map<string, MigrationProgress>();

  constructor(options: MigrationsOptions) {
    this.#options = options;
  }

  /** Null while the domain does not move. */
  progress(which: string): MigrationProgress | null {
    return this.#progress.get(this.#options.domains.find(which, "follow the migration of").name) ?? null;
  }

  /** `signal` aborted before the state is handed over: the domain stays. */
  async migrate(which: string, request: MigrateRequest, signal?: AbortSignal): Promise<MigrateResult> {
    const domain = this.#options.domains.findGuest(which, "migrate");
    return domain.exclusively("migrate", "being migrated", async () => {
      domain.needRunning("migrate");
      const target = await findDaemon(request.to, request.toRun);
      if (target.run === this.#options.paths.run)
        throw new DiskError("DENIED", `Cannot migrate domain ${domain.name}: ${request.to} is where it runs`, {
          details: { usage: true },
        });
      try {
        return await this.#migrateTo(target, domain, request, signal);
      } finally {
        this.#progress.delete(domain.name);
      }
    });
  }

  async #migrateTo(
    target: XvdPaths,
    domain: Domain,
    request: MigrateRequest,
    signal: AbortSignal | undefined,
  ): Promise<MigrateResult> {
    const { saves } = this.#options;
    const client = new Dom0Client({ paths: target });
    const disks = movingDisks(domain, target, request);
    const connections = await this.#connections(domain);
    this.#tell(domain, "asking the other host");
    const { name, config, disks: specs, memory } = moved(await saves.describe(domain), disks);
    await client.checkArrival({ name, config, disks: specs, memory, copied: disks.map(({ copied }) => copied) });
    const copies = disks.filter(({ copied }) => copied);
    try {
      await this.#copyWhileRunning(domain, copies, target, request.force ?? false, signal);
      const { arrival, saved } = await this.#move(domain, disks, client, signal);
      await this.#serveFrom(domain, arrival);
      const outstanding = saved.outstanding.reduce((sum, { calls }) => sum + calls.length, 0);
      return {
        domain: domain.name,
        domid: arrival.domid,
        ...target,
        outstanding,
        connections,
        disks: disks.map(({ vdev, from, to, copied }) => ({ vdev, from, to, copied })),
      };
    } catch (error) {
      for (const { devid } of copies) await this.#options.pool.endCopy({ domid: domain.domid, devid }, false);
      throw error;
    }
  }

  /** From the suspended guest here to the running one there. */
  async #move(
    domain: Domain,
    disks: readonly MovingDisk[],
    client: Dom0Client,
    signal: AbortSignal | undefined,
  ): Promise<{ arrival: Arrival; saved: SavedDomain }> {
    const { lifecycle, saves } = this.#options;
    signal?.throwIfAborted();
    this.#tell(domain, "suspending");
    await lifecycle.suspend(domain, "migrate");
    const named: string[] = [];
    try {
      await this.#finishCopies(domain, disks, named);
      const saved = moved(await saves.collect(domain), disks);
      signal?.throwIfAborted();
      this.#tell(domain, "handing over");
      await lifecycle.closeDisks(domain);
      const arrival = await this.#handOver(client, encodeSaved(saved));
      return { arrival, saved };
    } catch (error) {
      for (const path of named) this.#options.removeDir(path);
      throw await lifecycle.resumeAfter(domain, error);
    }
  }

  async #handOver(client: Dom0Client, bytes: Uint8Array): Promise<Arrival> {
    const token = this.#options.newToken();
    try {
      return await client.arrive(token, bytes);
    } catch (error) {
      if (!isUnanswered(error)) throw error; // it has said no
      const arrival = await this.#askFor(client, token);
      if (arrival) return arrival;
      throw error;
    }
  }

  /** Asks until it answers or is dead. Who hears nothing must not go on: the guest would run twice. */
  async #askFor(client: Dom0Client, token: string): Promise<Arrival | null> {
    for (;;) {
      try {
        return await client.callOffArrival(token);
      } catch (error) {
        if (!isUnanswered(error)) throw error;
        if ((error as DiskError).details.notRunning === true) return null;
        this.#options.onError(`the other host does not say whether the domain has come: ${(error as Error).message}`);
        await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
      }
    }
  }

  /** The domain is the other host's. What goes wrong here from now on costs connections, nothing else. */
  async #serveFrom(domain: Domain, arrival: Arrival): Promise<void> {
    const { domains, lifecycle, onError } = this.#options;
    const { guest } = domain;
    let unused = false;
    const end = () => {
      unused = true;
      domains.endMoved(guest);
    };
    await guest.moveTo(arrival.disks, end).catch((error: Error) => {
      onError(`${domain.name}: its clients are cut off: ${error.message}`);
      unused = true;
    });
    domains.releaseGuest(domain);
    if (unused) domains.endMoved(guest);
    await lifecycle.forget(domain);
  }

  async #copyWhileRunning(
    domain: Domain,
    copies: readonly MovingDisk[],
    target: XvdPaths,
    force: boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { pool, ensureDir } = this.#options;
    if (copies.length > 0) ensureDir(imagesFolder(target));
    for (const { devid, to } of copies) await pool.startCopy({ domid: domain.domid, devid }, to, force);
    for (const copy of copies) {
      let last = Number.POSITIVE_INFINITY;
      for (let round = 1; round <= MOST_ROUNDS; round++) {
        signal?.throwIfAborted();
        const dirty = await this.#round(domain, copy, `copying ${copy.vdev}, round ${round}`, signal);
        if (dirty <= SMALL_ROUND || dirty >= last) break;
        last = dirty;
      }
    }
  }

  /** Returns the bytes that changed meanwhile. */
  async #round(domain: Domain, { devid }: MovingDisk, phase: string, signal?: AbortSignal): Promise<number> {
    const { pool } = this.#options;
    const id = { domid: domain.domid, devid };
    this.#tell(domain, phase);
    const timer = setInterval(() => {
      pool.copyProgress(id).then(
        ({ done, total }) => this.#progress.set(domain.name, { phase, done, total }),
        () => {},
      );
    }, PROGRESS_MS);
    const giveUp = () => void pool.endCopy(id, false).catch(() => {});
    signal?.addEventListener("abort", giveUp);
    try {
      return (await pool.copyRound(id)).dirty;
    } finally {
      signal?.removeEventListener("abort", giveUp);
      clearInterval(timer);
    }
  }

  /** Of a suspended domain. `named` gets the files as they appear. */
  async #finishCopies(domain: Domain, disks: readonly MovingDisk[], named: string[]): Promise<void> {
    for (const disk of disks.filter(({ copied }) => copied)) {
      await this.#round(domain, disk, `copying ${disk.vdev}, last round`);
      await this.#options.pool.endCopy({ domid: domain.domid, devid: disk.devid }, true);
      named.push(disk.to);
    }
  }

  async #connections(domain: Domain): Promise<number> {
    const infos = await Promise.all([...domain.vbds.keys()].map((devid) => domain.guest.describe(devid)));
    return infos.reduce((sum, info) => sum + (info?.connections ?? 0), 0);
  }

  #tell(domain: Domain, phase: string): void {
    this.#progress.set(domain.name, { phase, done: 0, total: 0 });
  }
}

function isUnanswered(error: unknown): boolean {
  return error instanceof DiskError && error.details.unanswered === true;
}

function imagesFolder({ home }: XvdPaths): string {
  return `${home}/images`;
}

function movingDisks(
  domain: Domain,
  target: XvdPaths,
  { withDisks = false, force = false }: MigrateRequest,
): MovingDisk[] {
  const disks = [...domain.vbds].map(([devid, { vdev, disk }]) => {
    const to = withDisks ? `${imagesFolder(target)}/${copyName(domain, disk)}` : disk;
    return { devid, vdev: vdev.name, from: disk, to, copied: withDisks };
  });
  for (const [i, { from, to, copied }] of disks.entries()) {
    if (!copied) continue;
    const twin = disks.findIndex((other) => other.to === to);
    if (twin !== i)
      throw new DiskError(
        "DENIED",
        `Cannot migrate domain ${domain.name}: ${disks[twin]!.from} and ${from} would both become ${to}`,
      );
    if (!force && pathExists(to))
      throw new DiskError("DENIED", `Cannot migrate domain ${domain.name}: ${to} exists already, allowed with --force`);
  }
  return disks;
}

/** The name of a raw file; what is anything else cannot come along as it is. */
function copyName(domain: Domain, disk: string): string {
  const { base, part } = parseDiskName(disk, mayBeDisk);
  if (base.kind === "file" && !part) return basename(base.path);
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot migrate domain ${domain.name} with its disks: ${disk} is no image file of its own, allowed are shared disks without --with-disks`,
  );
}

/** As the other host shall have it. */
function moved(saved: SavedDomain, disks: readonly MovingDisk[]): SavedDomain {
  const named = saved.disks.map((spec) => ({
    ...spec,
    disk: disks.find(({ vdev }) => vdev === spec.vdev)?.to ?? spec.disk,
  }));
  return { ...saved, disks: named };
}
