/**
 * Dom0's backend threads, seen from the main thread: which thread serves which vbd, and the calls to it.
 *
 * A thread that ends by itself is replaced. What it had mapped and bound is released, once all of its I/O has ended; its
 * disks are opened again; then blkback offers itself anew and takes up each ring where the thread was, by its journal
 * (ring-journal.ts): what was not answered is done again. One that ends again and again is given up, with its vbds.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { DiskError } from "../errors.js";
import { ownPid } from "../os/this-process.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { LiveChange, LiveChangeResult } from "../stack/lvm/live-change.js";
import type { BlkbackDataPlane, DiskFacts, FrontendRings, VbdId } from "../xen/blkback.js";
import type { VbdLatency } from "../xen/blkback-statistics.js";
import type { StoredRun } from "../xen/blkfront-extents.js";
import type { RingKeys } from "../xen/blkif/features.js";
import { ABIS } from "../xen/blkif/layout.js";
import { PAGE_SIZE } from "../xen/platform/platform.js";
import { type DomainPages, DomainView } from "../xen/platform/simulated/domain-pages.js";
import { ringDoorbell } from "../xen/platform/simulated/event-channels.js";
import { ringSize } from "../xen/ring.js";
import { ringJournalBytes } from "../xen/ring-journal.js";
import type { DiskScript, VbdSpec } from "../xen/toolstack.js";
import type {
  BackendStatistics,
  BackendThreadData,
  ChangeVolumesParams,
  ConnectParams,
  ExtentsParams,
  OpenParams,
  ResizeParams,
  ServedVolume,
} from "./backend-thread.js";
import type { CopyRound } from "./disk-copy.js";
import { RpcClient } from "./thread-rpc.js";

/** Dom0's vcpu 0 runs its own frontends; the backend threads are the vcpus after it. */
const FIRST_VCPU = 1;
const MAX_THREADS = 8;
/** So many ends of one thread within so many milliseconds, and it is given up. */
const MAX_CRASHES = 5;
const CRASH_WINDOW_MS = 60_000;

interface BackendThread {
  readonly vcpu: number;
  worker: Worker;
  rpc: RpcClient;
  /** How often it was started. */
  generation: number;
  /** Resolves when it can be called; pending while it is replaced. Never rejects. */
  ready: Promise<void>;
  /** When it ended by itself, within the last minute. */
  crashes: number[];
  vbds: number;
}

interface ServedVbd {
  readonly thread: BackendThread;
  readonly params: OpenParams;
  facts: DiskFacts;
  /** Of the frontend that is connected. */
  rings: FrontendRings | undefined;
  /** Of the frontend that was connected last, until it lets go: a thread that takes its rings up again goes on from here. */
  journaled: { readonly rings: string; readonly journals: readonly SharedArrayBuffer[] } | undefined;
}

export interface BackendPoolOptions {
  readonly dom0: Required<DomainPages>;
  readonly paths: XvdPaths;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** The shared memory of a domain, to hand to the thread that maps its grants. */
  pagesOf(domid: number): DomainPages | undefined;
  /** Releases what a thread left that ended by itself: mappings, event channels, locks. */
  releaseVcpu(vcpu: number): void;
  /** The vbd's thread ended and was replaced: its disk is open again, its rings are not connected. */
  onRestarted(id: VbdId): void;
  /** The vbd's thread ended, and nobody serves it any more. */
  onLost(id: VbdId, reason: string): void;
  onError(message: string): void;
}

/** Threads are shared, as many as there are cores: one before it is needed, the others when they are. */
export class BackendPool implements BlkbackDataPlane, DiskScript {
  readonly #options: BackendPoolOptions;
  readonly #dom0: DomainView;
  readonly #threads: BackendThread[] = [];
  readonly #vbds = new Map<string, ServedVbd>();
  #stopping = false;

  constructor(options: BackendPoolOptions) {
    this.#options = options;
    this.#dom0 = new DomainView(options.dom0);
  }

  /** Begins to start a thread, so that the first disk need not wait for it. */
  prepare(): void {
    if (this.#threads.length === 0 && !this.#stopping) this.#newThread();
  }

  async add(id: VbdId, spec: VbdSpec): Promise<{ physicalDevice: string; path: string }> {
    const { discard = true, format, allowBacking = false, directIoSafe: direct = false } = spec.options ?? {};
    const image = { allowBacking, ...(format === undefined ? {} : { format }) };
    const params: OpenParams = { id, target: spec.target, writable: spec.writable, discard, direct, ...image };
    const first = this.#leastBusy();
    await this.#openIn(first, params).catch(async (error: unknown) => {
      if (!isHeldHere(error)) throw error;
      // Volumes that share something (a thin pool) come to the thread that has it.
      for (const thread of this.#threads.filter((other) => other !== first)) {
        const refused = await this.#openIn(thread, params).then(
          () => null,
          (again: unknown) => again,
        );
        if (refused === null) return;
        if (!isHeldHere(refused)) throw refused;
      }
      throw error;
    });
    // No kernel device stands behind a file that is served from user space: major and minor are those of none.
    return { physicalDevice: "0:0", path: spec.target };
  }

  async #openIn(thread: BackendThread, params: OpenParams): Promise<void> {
    thread.vbds++;
    try {
      const facts = await this.#call<DiskFacts>(thread, "open", params);
      this.#vbds.set(key(params.id), { thread, params, facts, rings: undefined, journaled: undefined });
    } catch (error) {
      thread.vbds--;
      throw error;
    }
  }

  async remove(id: VbdId): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) return;
    this.#vbds.delete(key(id));
    vbd.thread.vbds--;
    await this.#callUnlessEnded(vbd.thread, "close", { id });
  }

  /** What was written is durable. */
  async flush(id: VbdId): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (vbd) await this.#call(vbd.thread, "flush", { id });
  }

  /** What of a range is stored, for the disk's guest: `storedRuns`. Written bytes that were answered are in it. */
  async extents(id: VbdId, offset: number, length: number): Promise<readonly StoredRun[]> {
    return this.#call(this.#served(id).thread, "extents", { id, offset, length } satisfies ExtentsParams);
  }

  /** A copy of the disk, made in its thread while it is served (disk-copy.ts). */
  async startCopy(id: VbdId, path: string, force: boolean): Promise<void> {
    await this.#call(this.#served(id).thread, "copyStart", { id, path, force });
  }

  copyRound(id: VbdId): Promise<CopyRound> {
    return this.#call(this.#served(id).thread, "copyRound", { id });
  }

  async copyProgress(id: VbdId): Promise<{ done: number; total: number }> {
    return this.#call(this.#served(id).thread, "copyProgress", { id });
  }

  /** Gives the copy its name, or gives it up. Nothing happens when there is none. */
  async endCopy(id: VbdId, commit: boolean): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (vbd) await this.#call(vbd.thread, "copyEnd", { id, commit });
  }

  facts(id: VbdId): DiskFacts | undefined {
    return this.#vbds.get(key(id))?.facts;
  }

  async connect(id: VbdId, rings: FrontendRings): Promise<void> {
    const pages = this.#options.pagesOf(id.domid);
    if (!pages) throw new Error(`there is no domain ${id.domid}`);
    const vbd = this.#served(id);
    const same = JSON.stringify(rings);
    if (vbd.journaled?.rings !== same)
      vbd.journaled = { rings: same, journals: rings.rings.map((ring) => newJournal(ring, rings)) };
    const { journals } = vbd.journaled!;
    await this.#call(vbd.thread, "connect", { id, rings, journals, pages } satisfies ConnectParams);
    vbd.rings = rings;
  }

  async disconnect(id: VbdId): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) return;
    vbd.rings = undefined;
    vbd.journaled = undefined;
    await this.#callUnlessEnded(vbd.thread, "disconnect", { id });
  }

  /** Gives the vbd's file another size, by the rules of `stack/resize-disk.ts`; with `dryRun` only tells whether it may have it. */
  async resize(id: VbdId, options: Omit<ResizeParams, "id">): Promise<DiskFacts> {
    const vbd = this.#served(id);
    const facts = await this.#call<DiskFacts>(vbd.thread, "resize", { id, ...options });
    vbd.facts = facts;
    return facts;
  }

  /**
   * Changes a volume group while guests use volumes of it (stack/lvm/live-change.ts): in the thread that serves them. Null when none
   * of `volumes`, by their ids, is served here.
   */
  async changeVolumes(change: LiveChange, volumes: readonly string[]): Promise<LiveChangeResult | null> {
    const users: { readonly thread: BackendThread; readonly id: VbdId }[] = [];
    for (const thread of this.#threads) {
      const served = await this.#call<readonly ServedVolume[]>(thread, "volumes", {});
      for (const { id, volumeId } of served) if (volumes.includes(volumeId)) users.push({ thread, id });
    }
    const [first, ...others] = users;
    if (!first) return null;
    if (others.some(({ thread }) => thread !== first.thread))
      throw new DiskError("DENIED", `Cannot change volume group ${change.group}: several threads use the volumes`);
    const params: ChangeVolumesParams = { id: first.id, change };
    return this.#call<LiveChangeResult>(first.thread, "changeVolumes", params);
  }

  /** Null while no frontend is connected. */
  rings(id: VbdId): FrontendRings | null {
    return this.#vbds.get(key(id))?.rings ?? null;
  }

  async statistics(id: VbdId): Promise<BackendStatistics | null> {
    const vbd = this.#vbds.get(key(id));
    return (vbd && (await this.#callUnlessEnded<BackendStatistics>(vbd.thread, "statistics", { id }))) ?? null;
  }

  /** Null when nobody serves the vbd. */
  async latency(id: VbdId): Promise<VbdLatency | null> {
    const vbd = this.#vbds.get(key(id));
    return (vbd && (await this.#callUnlessEnded<VbdLatency>(vbd.thread, "latency", { id }))) ?? null;
  }

  async forget(domid: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => this.#callUnlessEnded(thread, "forget", { domid })));
  }

  /** Ends the thread that serves a vbd, wherever it is, as a crash would: for tests of what follows. */
  async crash(id: VbdId): Promise<void> {
    await this.#served(id).thread.worker.terminate();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #served(id: VbdId): ServedVbd {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) throw new DiskError("NOT_FOUND", `Cannot use vbd ${key(id)}: its disk is not open`);
    return vbd;
  }

  async #call<T>(thread: BackendThread, method: string, params: unknown): Promise<T> {
    await thread.ready;
    return thread.rpc.call<T>(method, params);
  }

  /** What a thread that ended has let go of anyway. */
  async #callUnlessEnded<T>(thread: BackendThread, method: string, params: unknown): Promise<T | undefined> {
    await thread.ready;
    const { generation } = thread;
    try {
      return await thread.rpc.call<T>(method, params);
    } catch (error) {
      if (thread.generation === generation) throw error;
      return undefined;
    }
  }

  #leastBusy(): BackendThread {
    const idle = this.#threads.find((thread) => thread.vbds === 0);
    if (idle) return idle;
    if (this.#threads.length < Math.min(availableParallelism(), MAX_THREADS)) return this.#newThread();
    return this.#threads.reduce((least, thread) => (thread.vbds < least.vbds ? thread : least));
  }

  #newThread(): BackendThread {
    const used = new Set(this.#threads.map(({ vcpu }) => vcpu));
    let vcpu = FIRST_VCPU;
    while (used.has(vcpu)) vcpu++;
    const started = this.#startWorker(vcpu);
    const thread = { vcpu, ...started, generation: 1, ready: Promise.resolve(), crashes: [], vbds: 0 };
    this.#watchEnd(thread);
    this.#threads.push(thread);
    return thread;
  }

  #startWorker(vcpu: number): Pick<BackendThread, "worker" | "rpc"> {
    const workerData: BackendThreadData = { dom0: this.#options.dom0, vcpu, paths: this.#options.paths };
    const worker = new Worker(new URL("./backend-thread.js", import.meta.url), { workerData, name: `blkback-${vcpu}` });
    return { worker, rpc: new RpcClient(worker, () => ringDoorbell(this.#dom0, vcpu)) };
  }

  /** `exit` comes when all I/O that the thread had begun has ended: only then may another serve its rings. */
  #watchEnd(thread: BackendThread): void {
    const { worker, rpc, vcpu } = thread;
    let reason = "it was terminated";
    worker.on("error", (error) => {
      reason = `it ended with ${error.message}`;
      this.#options.onError(`backend thread ${vcpu} ended: ${error.stack ?? error.message}`);
    });
    worker.on("message", (told: { event?: string; message?: string }) => {
      if (told.event === "log") this.#options.onError(told.message!);
    });
    worker.on("exit", () => {
      if (this.#stopping) return;
      thread.generation++;
      thread.ready = this.#replace(thread, reason);
      rpc.failAll(new DiskError("IO", `Cannot reach the backend thread: ${reason}`));
    });
  }

  async #replace(thread: BackendThread, reason: string): Promise<void> {
    const { vcpu } = thread;
    const vbds = [...this.#vbds.values()].filter((vbd) => vbd.thread === thread);
    for (const vbd of vbds) vbd.rings = undefined;
    this.#options.releaseVcpu(vcpu);
    const now = this.#options.now();
    thread.crashes = [...thread.crashes.filter((at) => at > now - CRASH_WINDOW_MS), now];
    if (thread.crashes.length >= MAX_CRASHES) {
      this.#threads.splice(this.#threads.indexOf(thread), 1);
      const why = `the backend thread ended ${thread.crashes.length} times within a minute, the last time: ${reason}`;
      for (const vbd of vbds) this.#lose(vbd, why);
      return;
    }
    Object.assign(thread, this.#startWorker(vcpu));
    this.#watchEnd(thread);
    this.#options.onError(`backend thread ${vcpu} is started again: ${reason}`);
    const { generation, rpc } = thread;
    await Promise.all(
      vbds.map(async (vbd) => {
        try {
          vbd.facts = await rpc.call<DiskFacts>("open", vbd.params);
          this.#options.onRestarted(vbd.params.id);
        } catch (error) {
          if (thread.generation === generation) this.#lose(vbd, (error as Error).message);
        }
      }),
    );
  }

  #lose(vbd: ServedVbd, reason: string): void {
    const { id } = vbd.params;
    if (this.#vbds.get(key(id)) !== vbd) return; // detached meanwhile
    this.#vbds.delete(key(id));
    vbd.thread.vbds--;
    this.#options.onError(`vbd ${key(id)} is given up: ${reason}`);
    this.#options.onLost(id, reason);
  }
}

function newJournal({ ringRefs }: RingKeys, { protocol }: FrontendRings): SharedArrayBuffer {
  const { stride } = ABIS[protocol]!;
  return new SharedArrayBuffer(ringJournalBytes(ringSize(ringRefs.length * PAGE_SIZE, stride), stride));
}

/** Refused by a lock that another thread of this process has. */
function isHeldHere(error: unknown): boolean {
  return error instanceof DiskError && error.details.locked === true && error.details.pid === ownPid;
}

function key(id: VbdId): string {
  return `${id.domid}/${id.devid}`;
}
