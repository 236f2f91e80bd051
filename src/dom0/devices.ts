/** The devices of a host's domains: what is attached where, and by which rules. */
import { DiskError } from "../errors.js";
import { anythingAt } from "../os/block-nodes.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { Blkback } from "../xen/blkback.js";
import { collides, firstFree, parseVdev } from "../xen/blkif/vdev.js";
import type { Toolstack } from "../xen/toolstack.js";
import type { VbdJournal } from "../xen/vbd-journal.js";
import type { XenstoreClient } from "../xen/xenstore/client.js";
import type { AttachedDevice, AttachRequest, DeviceDetails, Dom0Record, ResizeRequest } from "./api-types.js";
import type { BackendPool } from "./backend-pool.js";
import type { DomainDescriber } from "./describe.js";
import { describeDetails } from "./device-details.js";
import type { AttachedVbd, Domain, Domains } from "./domains.js";
import { resizeVbd } from "./live-resize.js";
import { kernelRecordFile, runId } from "./places.js";

/** Users of a device that a refusal names. */
const MAX_NAMED = 8;

export interface DevicesOptions {
  readonly paths: XvdPaths;
  readonly store: XenstoreClient;
  readonly journal: VbdJournal;
  readonly domains: Domains;
  readonly toolstack: Toolstack;
  readonly pool: BackendPool;
  readonly blkback: Blkback;
  readonly describer: DomainDescriber;
  /** What a guest may take to look at what it was told. */
  readonly timeoutMs: number;
  onChange(): void;
}

export class Devices {
  readonly #options: DevicesOptions;

  constructor(options: DevicesOptions) {
    this.#options = options;
  }

  async attach(request: AttachRequest): Promise<AttachedDevice> {
    const { domains, describer, onChange } = this.#options;
    const domain = domains.find(request.domain ?? "0", `attach ${request.disk} to`);
    this.#needAnswers(domain, `attach ${request.disk} to`);
    const { kernel = "never" } = request;
    if (kernel === "always" && domain.domid !== 0)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot attach ${request.disk} to ${domain.name} as a kernel device: this machine's kernel is Domain-0's, allowed --kernel auto and never`,
      );
    const inKernel = domain.domid === 0 && kernel !== "never";
    // Where the node of that name is another disk of this machine, ours would be taken for it.
    const number = await this.connect(domain, request, (name) => inKernel && anythingAt(`/dev/${name}`));
    const problem = inKernel ? await this.#openKernel(domain, number, kernel) : null;
    onChange();
    const device = await describer.device(domain, number);
    return problem === null ? device : { ...device, "kernel-problem": problem };
  }

  /** Returns what keeps it from being made, if anything does; with `always` the attach is taken back and fails. */
  async #openKernel(domain: Domain, devid: number, kernel: "auto" | "always"): Promise<string | null> {
    const { paths, journal } = this.#options;
    journal.step({ domid: domain.domid, devid }, "makes the kernel's device");
    try {
      await domain.guest.openKernel({ devid, owner: runId(paths), recordFile: kernelRecordFile(paths) });
      return null;
    } catch (error) {
      if (kernel === "auto") return (error as Error).message;
      await this.detach(String(devid), { domain: String(domain.domid), force: true });
      throw error;
    }
  }

  /** Returns the device's number. One that is not asked for by name gets none that is `reserved`. */
  async connect(domain: Domain, request: AttachRequest, reserved?: (name: string) => boolean): Promise<number> {
    const { vbds } = domain;
    const vdev =
      request.vdev === undefined
        ? firstFree(
            [...vbds.values()].map((other) => other.vdev),
            reserved,
          )
        : parseVdev(request.vdev);
    const taken = [...vbds.values()].find((other) => collides(other.vdev, vdev));
    if (taken)
      throw new DiskError(
        "DENIED",
        `Cannot attach ${request.disk} as ${vdev.name}: ${taken.disk} is attached as ${taken.vdev.name} in ${domain.name}`,
      );
    const { disk, access = "rw", options } = request;
    this.#refuseSharing(disk, access);
    const vbd: AttachedVbd = { vdev, disk, access, ...(options ? { options } : {}) };
    vbds.set(vdev.number, vbd); // holds the number while the attach is under way
    try {
      await this.#options.toolstack.attach(domain.domid, vbdSpec(vbd));
    } catch (error) {
      vbds.delete(vdev.number);
      throw error;
    }
    return vdev.number;
  }

  /** `which` is a device name, a device number or the disk behind it. */
  async detach(which: string, options: { domain?: string; force?: boolean } = {}): Promise<AttachedDevice> {
    const { toolstack, describer, onChange } = this.#options;
    const { domain, devid, vbd } = this.#find(which, options.domain);
    refuseBusy(domain, `detach ${vbd.vdev.name} from`);
    const device = await describer.device(domain, devid);
    if (device.connections > 0 && !options.force)
      throw new DiskError(
        "DENIED",
        `Cannot detach ${vbd.vdev.name} from ${domain.name}: it is in use, ${describeUsers(device, domain.guest.socketDir)}, allowed with --force`,
        { details: { pids: [...new Set(device.clients.flatMap(({ pid }) => pid ?? []))] } },
      );
    const force = options.force === true || domain.guest.crashed; // a crashed guest cannot be asked
    if (!force) this.#needAnswers(domain, `detach ${vbd.vdev.name} from`);
    if (domain.domid === 0) await domain.guest.closeKernel(devid, force);
    await toolstack.detach({ domid: domain.domid, devid }, `${vbd.vdev.name} from ${domain.name}`, { force });
    domain.vbds.delete(devid);
    onChange();
    return device;
  }

  /** Gives the file of an attached disk another size; resolves when the guest sees it. With `dryRun` nothing changes. */
  async resize(vdev: string, { domain: which, ...options }: ResizeRequest): Promise<AttachedDevice> {
    const { domains, pool, blkback, describer, timeoutMs } = this.#options;
    const domain = domains.find(which, `resize ${vdev} of`);
    this.#needAnswers(domain, `resize ${vdev} of`);
    const { guest, vbds } = domain;
    return describer.device(domain, await resizeVbd({ pool, blkback, guest, vbds, timeoutMs }, vdev, options));
  }

  /** All that can be seen of a device. */
  async details(domain: Domain, devid: number): Promise<DeviceDetails> {
    const { describer, store, journal } = this.#options;
    return describeDetails(store, journal, await describer.device(domain, devid));
  }

  async crashBackend(vdev: string, which: string): Promise<void> {
    const { domain, devid } = this.#find(vdev, which);
    await this.#options.pool.crash({ domid: domain.domid, devid });
  }

  /** Takes all devices of a guest that does not run any more. */
  async takeAll(domain: Domain): Promise<void> {
    for (const [devid, vbd] of domain.vbds) {
      if (domain.domid === 0) await domain.guest.closeKernel(devid, true).catch(() => {}); // its disk goes, whatever it says
      await this.#options.toolstack.detach({ domid: domain.domid, devid }, vbd.vdev.name, { force: true });
      domain.vbds.delete(devid);
    }
  }

  /** What is attached now, for the daemon's record. */
  attached(): Dom0Record["devices"] {
    return this.#options.domains.all().flatMap((domain) =>
      [...domain.vbds.values()].map(({ vdev, disk, access }) => ({
        domain: domain.name,
        vdev: vdev.name,
        disk,
        access,
      })),
    );
  }

  #needAnswers(domain: Domain, verb: string): void {
    refuseBusy(domain, verb);
    if (domain.guest.crashed) throw new DiskError("IO", `Cannot ${verb} domain ${domain.name}: it has crashed`);
    domain.needRunning(verb);
  }

  /** The disk's own lock would refuse it too; this tells which device of ours has it. */
  #refuseSharing(disk: string, access: "rw" | "ro"): void {
    for (const domain of this.#options.domains.all())
      for (const vbd of domain.vbds.values())
        if (vbd.disk === disk && (access === "rw" || vbd.access === "rw"))
          throw new DiskError(
            "DENIED",
            `Cannot attach ${disk} ${access}: it is in use as ${vbd.vdev.name} of ${domain.name} (${vbd.access}), a writer shares with nobody`,
          );
  }

  #find(which: string, domain: string | undefined): { domain: Domain; devid: number; vbd: AttachedVbd } {
    const { domains } = this.#options;
    const among = domain === undefined ? domains.all() : [domains.find(domain, `detach ${which} from`)];
    const name = which.replace(/^\/dev\//, "");
    const found = among.flatMap((each) =>
      [...each.vbds]
        .filter(([devid, vbd]) => vbd.vdev.name === name || vbd.disk === which || String(devid) === which)
        .map(([devid, vbd]) => ({ domain: each, devid, vbd })),
    );
    // A bare device name means Domain-0's when several domains have one.
    const chosen = found.length > 1 && !which.startsWith("/") ? found.filter((each) => each.domain.domid === 0) : found;
    if (chosen.length === 1) return chosen[0]!;
    if (found.length > 1 && new Set(found.map((each) => each.domain)).size < found.length) {
      const devices = found.map((each) => `${each.domain.name}/${each.vbd.vdev.name}`).join(", ");
      throw new DiskError("DENIED", `Cannot detach ${which}: it is attached as ${devices}, name one of them`);
    }
    if (found.length === 0)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot detach ${which}: no such device is attached${domain === undefined ? "" : ` to domain ${domain}`}`,
      );
    throw new DiskError(
      "DENIED",
      `Cannot detach ${which}: it is attached to ${found.map((each) => each.domain.name).join(", ")}, choose with --domain`,
    );
  }
}

/** Clients whose processes are not known are only counted. */
function describeUsers({ connections, clients }: AttachedDevice, socketDir: string): string {
  const count = `${connections} client${connections > 1 ? "s are" : " is"} connected to its sockets in ${socketDir}`;
  const known = new Map(
    clients.flatMap(({ pid, command }) => (pid === null ? [] : [[pid, `${command} (pid ${pid})`]])),
  );
  if (known.size === 0) return count;
  const more = known.size > MAX_NAMED ? ` and ${known.size - MAX_NAMED} more` : "";
  return `${count}: ${[...known.values()].slice(0, MAX_NAMED).join(", ")}${more}`;
}

/** The disk as the toolstack is told of it. */
export function vbdSpec({ vdev, disk, access, options }: AttachedVbd) {
  return { vdev, target: disk, writable: access === "rw", ...(options ? { options } : {}) };
}

/** What is being done with the domain as a whole counts on its devices. */
function refuseBusy({ name, busy }: Domain, verb: string): void {
  if (busy) throw new DiskError("DENIED", `Cannot ${verb} domain ${name}: it is ${busy}`);
}
