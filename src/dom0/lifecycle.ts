/**
 * What happens to a domain as a whole (libxl's domain operations): pause, shutdown, suspend, destroy.
 * Each waits for its guest no longer than a step may take, and says which step waited for whom.
 */
import { DiskError } from "../errors.js";
import { domainPath } from "../xen/blkif/keys.js";
import { SHUTDOWN } from "../xen/platform/simulated/hypercalls.js";
import type { Toolstack } from "../xen/toolstack.js";
import { waitForNode } from "../xen/xenbus.js";
import type { XenstoreClient } from "../xen/xenstore/client.js";
import type { BackendPool } from "./backend-pool.js";
import { type Devices, vbdSpec } from "./devices.js";
import type { Domain, Domains } from "./domains.js";
import { within } from "./within.js";

export interface LifecycleOptions {
  readonly store: XenstoreClient;
  readonly toolstack: Toolstack;
  readonly pool: BackendPool;
  readonly domains: Domains;
  readonly devices: Devices;
  /** Milliseconds for each step. */
  readonly timeoutMs: number;
  onError(message: string): void;
  onChange(): void;
}

const LOCK_RETRY_MS = 100;

export class Lifecycle {
  readonly #options: LifecycleOptions;
  /** Suspensions that nobody waits for any more. */
  readonly #cancelled = new Set<Domain>();
  readonly #ending = new WeakMap<Domain, Promise<void>>();

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  async pause(which: string): Promise<void> {
    const domain = this.#options.domains.findGuest(which, "pause");
    await domain.exclusively("pause", "being paused", async () => {
      if (domain.state === "paused") return;
      domain.needRunning("pause");
      if (await domain.pause(this.#options.timeoutMs)) return;
      throw new DiskError("IO", `Cannot pause domain ${domain.name}: its vcpu did not stop within ${this.#limit()}`);
    });
  }

  /** Lets a paused domain run again; one that was suspended goes on with new rings. */
  async unpause(which: string): Promise<void> {
    const domain = this.#options.domains.findGuest(which, "unpause");
    await domain.exclusively("unpause", "being unpaused", async () => {
      if (domain.state === "suspended") return this.resume(domain);
      if (domain.state === "paused") domain.unpause();
      else domain.needRunning("unpause");
    });
  }

  /** Asks the guest to end in order, then takes its devices; with `reboot` the same domain starts again under a new id. */
  async shutdown(which: string, { reboot = false }: { reboot?: boolean } = {}): Promise<void> {
    const verb = reboot ? "reboot" : "shut down";
    const domain = this.#options.domains.findGuest(which, verb);
    await domain.exclusively(verb, reboot ? "being rebooted" : "being shut down", async () => {
      await this.#ask(domain, verb, reboot ? "reboot" : "poweroff");
      await this.#afterEnd(domain, reboot);
    });
  }

  /**
   * The guest lets all its rings go and waits; its disks stay open. The caller holds the domain exclusively. A guest that
   * takes too long goes on as soon as it is done.
   */
  async suspend(domain: Domain, verb: string): Promise<void> {
    this.#cancelled.delete(domain);
    try {
      await this.#ask(domain, verb, "suspend");
    } catch (error) {
      this.#cancelled.add(domain);
      throw error;
    }
  }

  /** Of a suspended domain: all that its disks were told is durable. */
  async flush(domain: Domain): Promise<void> {
    for (const devid of domain.vbds.keys()) await this.#options.pool.flush({ domid: domain.domid, devid });
  }

  /** Of a suspended domain: its disks are durable and somebody else may have them. `resume` opens them again. */
  async closeDisks(domain: Domain): Promise<void> {
    for (const devid of domain.vbds.keys()) await this.#options.toolstack.closeDisk({ domid: domain.domid, devid });
  }

  /** After something failed with a suspended domain: it goes on. What the caller throws then; tells when it could not. */
  async resumeAfter(domain: Domain, error: unknown): Promise<unknown> {
    try {
      await this.resume(domain);
      return error;
    } catch (second) {
      const { code, details } = error instanceof DiskError ? error : ({ code: "IO", details: {} } as const);
      const text = `${(error as Error).message}; domain ${domain.name} could not go on either: ${(second as Error).message}`;
      return new DiskError(code, text, { details, cause: error });
    }
  }

  /** A suspended guest goes on, with the disks as they are or opened anew. Throws when one is not Connected in time. */
  async resume(domain: Domain): Promise<void> {
    const { toolstack, timeoutMs } = this.#options;
    await this.#reopenDisks(domain);
    await within(timeoutMs, domain.resume(), undefined);
    for (const [devid, vbd] of domain.vbds) await toolstack.waitConnected({ domid: domain.domid, devid }, vbdSpec(vbd));
  }

  /** Whoever had them meanwhile may be ending just now: its locks go a moment later. */
  async #reopenDisks(domain: Domain): Promise<void> {
    const { toolstack, pool, timeoutMs } = this.#options;
    for (const [devid, vbd] of domain.vbds) {
      const id = { domid: domain.domid, devid };
      for (let waited = 0; !pool.facts(id); waited += LOCK_RETRY_MS) {
        try {
          await toolstack.reopenDisk(id, vbdSpec(vbd));
        } catch (error) {
          if (waited >= timeoutMs) throw error;
          await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS));
        }
      }
    }
  }

  /** Ends the domain as a power cut would, then takes its devices back. */
  async destroy(which: string): Promise<void> {
    const domain = this.#options.domains.findGuest(which, "destroy");
    await this.end(domain);
  }

  /** The same, whatever else is being done with it. */
  end(domain: Domain): Promise<void> {
    const ending = this.#ending.get(domain) ?? this.#options.domains.stopGuest(domain).then(() => this.forget(domain));
    this.#ending.set(domain, ending);
    return ending;
  }

  /** Of a domain whose guest does not run here any more: takes its devices and all that the store has of it. */
  async forget(domain: Domain): Promise<void> {
    const { devices, domains, pool, onChange } = this.#options;
    await devices.takeAll(domain);
    await domains.forget(domain);
    await pool.forget(domain.domid);
    onChange();
  }

  /** A guest that ended by itself, or by a word written into its store by somebody else (xl's on_poweroff, on_reboot). */
  async afterShutdown(domain: Domain, reason: number): Promise<void> {
    const failed = (error: Error) => this.#options.onError(`${domain.name}: ${error.message}`);
    if (this.#cancelled.delete(domain)) await this.resume(domain).catch(failed);
    const reboot = reason === SHUTDOWN.reboot;
    if (domain.busy || !(reboot || reason === SHUTDOWN.poweroff)) return; // suspended, or crashed: kept to be looked at
    const doing = reboot ? "being rebooted" : "being shut down";
    await domain.exclusively("end", doing, () => this.#afterEnd(domain, reboot)).catch(failed);
  }

  /** Ends all domains, and detaches what is Domain-0's. */
  async stop(): Promise<void> {
    const { domains, devices } = this.#options;
    for (const domain of domains.all().reverse()) {
      if (domain.domid !== 0) await this.end(domain);
      else {
        await devices.takeAll(domain);
        await domains.stopGuest(domain);
      }
    }
  }

  async #afterEnd(domain: Domain, reboot: boolean): Promise<void> {
    const { domains, devices, onChange } = this.#options;
    const vbds = [...domain.vbds.values()];
    await this.end(domain);
    if (!reboot) return;
    const { restored: _, ...options } = domain.options;
    const again = await domains.create(domain.name, options);
    try {
      for (const vbd of vbds) await devices.connect(again, { ...vbd, vdev: vbd.vdev.name });
    } catch (error) {
      await this.end(again);
      throw error;
    }
    onChange();
  }

  /** Writes control/shutdown, waits until the guest has taken it (empty again), then until it has done it. */
  async #ask(domain: Domain, verb: string, word: string): Promise<void> {
    const { store, timeoutMs } = this.#options;
    domain.needRunning(verb);
    const node = `${domainPath(domain.domid)}/control/shutdown`;
    await store.write(node, word);
    const taken = await waitForNode(store, node, (value) => value !== word, timeoutMs);
    if (!taken) {
      await store.write(node, "");
      throw new DiskError(
        "IO",
        `Cannot ${verb} domain ${domain.name}: its guest did not acknowledge ${JSON.stringify(word)} in control/shutdown within ${this.#limit()}, 'xvd domain destroy' ends it`,
      );
    }
    if ((await domain.waitShutdown(timeoutMs)) !== null) return;
    throw new DiskError(
      "IO",
      `Cannot ${verb} domain ${domain.name}: its guest acknowledged and did not finish within ${this.#limit()}, ${await this.#waitsFor(domain)}`,
    );
  }

  /** Which disk holds a guest up, and which end of it. */
  async #waitsFor(domain: Domain): Promise<string> {
    for (const [devid, vbd] of domain.vbds) {
      const { frontend, backend } = await this.#options.toolstack.states({ domid: domain.domid, devid });
      if (frontend !== 6 || backend !== 6)
        return `${vbd.vdev.name} has its frontend in state ${frontend} and its backend in state ${backend}, both must be 6 (Closed)`;
    }
    return "all its disks are closed";
  }

  #limit(): string {
    return `${this.#options.timeoutMs / 1000} s`;
  }
}
