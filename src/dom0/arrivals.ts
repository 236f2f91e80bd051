/**
 * Domains that come from another host. A domain has come when all of it runs here: from then on it is ours, whether or not
 * the other host hears of it. Each coming has a token, by which the other host can ask what became of it, or call it off.
 */
import { DiskError } from "../errors.js";
import { mayBeDisk } from "../os/paths.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import { openDisk } from "../stack/disk.js";
import { parseDiskName } from "../stack/disk-name.js";
import type { Arrival, ArrivalPlan } from "./api-types.js";
import type { Domains } from "./domains.js";
import type { Saves } from "./save.js";
import { decodeSaved } from "./saved-domain.js";

export interface ArrivalsOptions {
  readonly paths: XvdPaths;
  readonly domains: Domains;
  readonly saves: Saves;
}

/** Tokens that are remembered; the oldest are forgotten. */
const MEMORY = 1000;

export class Arrivals {
  readonly #options: ArrivalsOptions;
  /** By token: the coming, or null when it was called off before it began. */
  readonly #known = new Map<string, Promise<Arrival> | null>();

  constructor(options: ArrivalsOptions) {
    this.#options = options;
  }

  /** Throws when such a domain could not come now. Nothing is reserved: it is judged again when it comes. */
  async check({ name, config, disks = [], copied }: ArrivalPlan): Promise<void> {
    const { domains, paths } = this.#options;
    await domains.checkNew(name, config?.uuid);
    for (const [i, { disk }] of disks.entries()) {
      if (parseDiskName(disk, mayBeDisk).base.kind === "domain")
        throw new DiskError(
          "UNSUPPORTED",
          `Cannot take domain ${name}: ${disk} is a device of a domain of the other host`,
        );
      if (!copied[i]) await (await openDisk(disk, { forceShare: true, paths })).close();
    }
  }

  /** `saved` as in a file of `xvd domain save`. On failure nothing of the domain is left here. */
  async take(token: string, saved: Uint8Array): Promise<Arrival> {
    if (this.#known.has(token))
      throw new DiskError("DENIED", "Cannot take the domain: it has come already, or was called off");
    const coming = this.#begin(saved);
    this.#remember(token, coming);
    return coming;
  }

  /** What became of it. One that has not begun will not: after null, the domain is the other host's. */
  async callOff(token: string): Promise<Arrival | null> {
    const coming = this.#known.get(token);
    if (coming === undefined) this.#remember(token, null);
    return coming ? coming.catch(() => null) : null;
  }

  async #begin(bytes: Uint8Array): Promise<Arrival> {
    const saved = decodeSaved(bytes, "the domain");
    const { domain, statuses } = await this.#options.saves.begin(saved);
    const disks = [...domain.vbds].map(([devid, { vdev, access }]) => ({
      devid,
      socket: `${domain.guest.socketDir}/${vdev.name}`,
      writable: access === "rw",
      statuses: statuses.find((each) => each.devid === devid)?.statuses ?? [],
    }));
    return { domid: domain.domid, disks };
  }

  #remember(token: string, coming: Promise<Arrival> | null): void {
    this.#known.set(token, coming);
    if (this.#known.size > MEMORY) this.#known.delete(this.#known.keys().next().value!);
  }
}
