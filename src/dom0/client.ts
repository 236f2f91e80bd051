/** The control API, seen by a command: calls the daemon, and starts one when none runs. */
import { request } from "node:http";
import { DiskError } from "../errors.js";
import { lastLineOf, startDetached } from "../os/background.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { LiveChangeResult } from "../stack/lvm/live-change.js";
import type { BlockInfo } from "../xen/block-info.js";
import type {
  Arrival,
  ArrivalPlan,
  AttachedDevice,
  AttachRequest,
  ChangeVolumesRequest,
  CreateDomainRequest,
  DeviceDetails,
  Dom0Status,
  DomainInfo,
  IoSample,
  MigrateRequest,
  MigrateResult,
  MigrationProgress,
  ResizeRequest,
  RestoreRequest,
  SaveRequest,
  SaveResult,
} from "./api-types.js";
import { controlSocket, logFile } from "./places.js";
import { type PlainError, revivedError } from "./thread-rpc.js";

export interface Dom0ClientOptions {
  readonly paths: XvdPaths;
  /** Command that runs a daemon in the foreground; without it a missing daemon is an error. */
  readonly daemonCommand?: readonly string[];
}

const START_TIMEOUT_MS = 20_000;
const GET_TIMEOUT_MS = 10_000;
const CHANGE_TIMEOUT_MS = 60_000;
const ARRIVAL_TIMEOUT_MS = 120_000;
/** What a disk's speed decides. */
const LONG_TIMEOUT_MS = 24 * 3_600_000;

interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

export class Dom0Client {
  readonly #paths: XvdPaths;
  readonly #daemonCommand: readonly string[] | undefined;

  constructor(options: Dom0ClientOptions) {
    this.#paths = options.paths;
    this.#daemonCommand = options.daemonCommand;
  }

  /** Null when no daemon runs. Never starts one. */
  async status(): Promise<Dom0Status | null> {
    try {
      return await this.#request<Dom0Status>("GET", "status");
    } catch (error) {
      if (isNotRunning(error)) return null;
      throw error;
    }
  }

  /** Starts a daemon unless one runs; returns its status. */
  async ensureRunning(): Promise<Dom0Status> {
    const running = await this.status();
    if (running) return running;
    if (!this.#daemonCommand)
      throw new DiskError(
        "NOT_FOUND",
        `Cannot reach Dom0: none runs in ${this.#paths.run}, start it with 'xvd dom0 start'`,
      );
    const { ensurePrivateDir } = await import("../os/trees.js");
    ensurePrivateDir(this.#paths.home);
    const child = startDetached(this.#daemonCommand, logFile(this.#paths), {
      XVD_HOME: this.#paths.home, // absolute: it works in another folder
      XVD_RUN: this.#paths.run,
    });
    for (let waited = 0; waited < START_TIMEOUT_MS; waited += 25) {
      const status = await this.status();
      if (status) return status;
      // One that lost the race against another start has said so: then that one will answer soon.
      if (child.exited() && !lastLineOf(logFile(this.#paths)).includes("it is in use by")) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new DiskError(
      "IO",
      `Cannot start Dom0: ${lastLineOf(logFile(this.#paths)) || "it said nothing"} (${logFile(this.#paths)})`,
    );
  }

  domains(): Promise<DomainInfo[]> {
    return this.#call("GET", "domains");
  }

  createDomain(create: CreateDomainRequest): Promise<DomainInfo> {
    return this.#call("POST", "domains", create);
  }

  destroyDomain(which: string): Promise<void> {
    return this.#call("DELETE", `domains/${encodeURIComponent(which)}`);
  }

  pause(which: string): Promise<void> {
    return this.#call("POST", `pause/${encodeURIComponent(which)}`);
  }

  unpause(which: string): Promise<void> {
    return this.#call("POST", `unpause/${encodeURIComponent(which)}`);
  }

  shutdown(which: string, options: { reboot?: boolean }): Promise<void> {
    return this.#call("POST", `shutdown/${encodeURIComponent(which)}`, options);
  }

  /** `signal`: gives up; the domain goes on unless it was saved by then. */
  save(which: string, save: SaveRequest, signal?: AbortSignal): Promise<SaveResult> {
    return this.#call("POST", `save/${encodeURIComponent(which)}`, save, { signal, timeoutMs: LONG_TIMEOUT_MS });
  }

  restore(restore: RestoreRequest, signal?: AbortSignal): Promise<DomainInfo> {
    return this.#call("POST", "restore", restore, { signal, timeoutMs: LONG_TIMEOUT_MS });
  }

  /** `signal`: gives up; the domain stays unless it has moved by then. */
  migrate(which: string, migrate: MigrateRequest, signal?: AbortSignal): Promise<MigrateResult> {
    return this.#call("POST", `migrate/${encodeURIComponent(which)}`, migrate, { signal, timeoutMs: LONG_TIMEOUT_MS });
  }

  migrationProgress(which: string): Promise<MigrationProgress | null> {
    return this.#call("GET", `migrate/${encodeURIComponent(which)}`);
  }

  /** Throws when such a domain could not come to this host now. */
  checkArrival(plan: ArrivalPlan): Promise<void> {
    return this.#request("POST", "arrivals", plan);
  }

  /** The domain comes to this host. An error with `details.unanswered` does not say that it has not. */
  arrive(token: string, saved: Uint8Array): Promise<Arrival> {
    return this.#request("PUT", `arrivals/${token}`, saved, { timeoutMs: ARRIVAL_TIMEOUT_MS });
  }

  /** Null: it has not come, and will not. */
  async callOffArrival(token: string): Promise<Arrival | null> {
    return (await this.#request<{ arrival: Arrival | null }>("DELETE", `arrivals/${token}`)).arrival;
  }

  attach(attach: AttachRequest): Promise<AttachedDevice> {
    return this.#call("POST", "devices", attach);
  }

  detach(which: string, options: { domain?: string; force?: boolean }): Promise<AttachedDevice> {
    const query = new URLSearchParams({
      ...(options.domain ? { domain: options.domain } : {}),
      ...(options.force ? { force: "1" } : {}),
    });
    return this.#call("DELETE", `devices/${encodeURIComponent(which)}?${query}`);
  }

  /** All that can be seen of the devices of a domain (default: of all), or of one of them by its number. */
  details(domain?: string, device?: number): Promise<DeviceDetails[]> {
    const query = new URLSearchParams({
      ...(domain === undefined ? {} : { domain }),
      ...(device === undefined ? {} : { device: String(device) }),
    });
    return this.#call("GET", `details?${query}`);
  }

  /** The counters of all devices now. */
  io(): Promise<IoSample> {
    return this.#call("GET", "io");
  }

  /** Resolves when the guest sees the new size. */
  resize(vdev: string, resize: ResizeRequest): Promise<AttachedDevice> {
    return this.#call("POST", `resize/${encodeURIComponent(vdev)}`, resize);
  }

  /** Changes a volume group while guests use it. Null when none of the volumes is attached, or no daemon runs. */
  async changeVolumes(request: ChangeVolumesRequest): Promise<LiveChangeResult | null> {
    const answer = await this.#request<{ result: LiveChangeResult | null }>("POST", "volumes", request).catch(
      (error) => {
        if (isNotRunning(error)) return { result: null };
        throw error;
      },
    );
    return answer.result;
  }

  /** The vbds of a domain, as the store has them. */
  blockDevices(domain: string): Promise<BlockInfo[]> {
    return this.#call("GET", `block-devices/${encodeURIComponent(domain)}`);
  }

  /** Detaches everything and stops the daemon. False when none runs. Refused while kernel devices are in use, unless `force`. */
  async stop({ force = false }: { force?: boolean } = {}): Promise<boolean> {
    try {
      await this.#request("POST", force ? "stop?force=1" : "stop");
      return true;
    } catch (error) {
      if (isNotRunning(error)) return false;
      throw error;
    }
  }

  async #call<T>(method: string, path: string, body?: unknown, options?: CallOptions): Promise<T> {
    try {
      return await this.#request<T>(method, path, body, options);
    } catch (error) {
      if (!isNotRunning(error) || !this.#daemonCommand) throw error;
      await this.ensureRunning();
      return this.#request<T>(method, path, body, options);
    }
  }

  #request<T>(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<T> {
    const { signal, timeoutMs = method === "GET" ? GET_TIMEOUT_MS : CHANGE_TIMEOUT_MS } = options;
    return new Promise<T>((resolve, reject) => {
      const call = request(
        {
          socketPath: controlSocket(this.#paths),
          method,
          path: `/${path}`,
          agent: false,
          ...(signal ? { signal } : {}),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", (error: NodeJS.ErrnoException) => reject(notRunning(this.#paths, error)));
          response.on("end", () => {
            let document: T & { error?: PlainError };
            try {
              document = JSON.parse(Buffer.concat(chunks).toString("utf8")) as T & { error?: PlainError };
            } catch (error) {
              return reject(notRunning(this.#paths, error as Error)); // it ended in the middle of its answer
            }
            if (response.statusCode === 200) resolve(document);
            else reject(revivedError(document.error!));
          });
        },
      );
      // An attach takes up to 30 s to give up, everything else less.
      call.setTimeout(timeoutMs, () => call.destroy(new Error("it does not answer")));
      call.on("error", (error: NodeJS.ErrnoException) => reject(notRunning(this.#paths, error)));
      call.end(body === undefined || body instanceof Uint8Array ? body : JSON.stringify(body));
    });
  }
}

function notRunning(paths: XvdPaths, error: NodeJS.ErrnoException): Error {
  if (error.code === "ENOENT" || error.code === "ECONNREFUSED")
    return new DiskError("NOT_FOUND", `Cannot reach Dom0: none runs in ${paths.run}`, {
      details: { notRunning: true, unanswered: true },
      cause: error,
    });
  return new DiskError("IO", `Cannot reach Dom0 at ${controlSocket(paths)}: ${error.message}`, {
    details: { unanswered: true },
    cause: error,
  });
}

function isNotRunning(error: unknown): boolean {
  return error instanceof DiskError && error.details.notRunning === true;
}
