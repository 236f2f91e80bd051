/** Dom0's backend threads, seen from the main thread: which thread serves which vbd, and the calls to it. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { DiskError } from "../errors.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { BlkbackDataPlane, DiskFacts, FrontendRings, VbdId } from "../xen/blkback.js";
import type { VbdStatistics } from "../xen/blkback-queue.js";
import { type DomainPages, DomainView } from "../xen/platform/simulated/domain-pages.js";
import { ringDoorbell } from "../xen/platform/simulated/event-channels.js";
import type { DiskScript, VbdSpec } from "../xen/toolstack.js";
import type { BackendThreadData, OpenParams } from "./backend-thread.js";
import { RpcClient } from "./thread-rpc.js";

/** Dom0's vcpu 0 runs its own frontends; the backend threads are the vcpus after it. */
const FIRST_VCPU = 1;
const MAX_THREADS = 8;

interface BackendThread {
  readonly worker: Worker;
  readonly rpc: RpcClient;
  vbds: number;
}

interface ServedVbd {
  readonly thread: BackendThread;
  readonly facts: DiskFacts;
  readonly target: string;
  /** Of the frontend that is connected. */
  rings: FrontendRings | undefined;
}

export interface BackendPoolOptions {
  readonly dom0: Required<DomainPages>;
  readonly paths: XvdPaths;
  /** The shared memory of a domain, to hand to the thread that maps its grants. */
  pagesOf(domid: number): DomainPages | undefined;
  onError(message: string): void;
}

/** Threads are started when first needed and shared: as many as there are cores, not one for each disk. */
export class BackendPool implements BlkbackDataPlane, DiskScript {
  readonly #options: BackendPoolOptions;
  readonly #dom0: DomainView;
  readonly #threads: BackendThread[] = [];
  readonly #vbds = new Map<string, ServedVbd>();

  constructor(options: BackendPoolOptions) {
    this.#options = options;
    this.#dom0 = new DomainView(options.dom0);
  }

  async add(id: VbdId, spec: VbdSpec): Promise<{ physicalDevice: string; path: string }> {
    const thread = this.#leastBusy();
    const { discard = true, rawGiven = false } = spec.options ?? {};
    const format = rawGiven ? { format: "raw" } : {};
    const params: OpenParams = { id, target: spec.target, writable: spec.writable, discard, ...format };
    thread.vbds++;
    try {
      const facts = await thread.rpc.call<DiskFacts>("open", params);
      this.#vbds.set(key(id), { thread, facts, target: spec.target, rings: undefined });
    } catch (error) {
      thread.vbds--;
      throw error;
    }
    // No kernel device stands behind a file that is served from user space: major and minor are those of none.
    return { physicalDevice: "0:0", path: spec.target };
  }

  async remove(id: VbdId): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) return;
    this.#vbds.delete(key(id));
    vbd.thread.vbds--;
    await vbd.thread.rpc.call("close", { id });
  }

  facts(id: VbdId): DiskFacts | undefined {
    return this.#vbds.get(key(id))?.facts;
  }

  async connect(id: VbdId, rings: FrontendRings): Promise<void> {
    const pages = this.#options.pagesOf(id.domid);
    if (!pages) throw new Error(`there is no domain ${id.domid}`);
    const vbd = this.#served(id);
    await vbd.thread.rpc.call("connect", { id, rings, pages });
    vbd.rings = rings;
  }

  async disconnect(id: VbdId): Promise<void> {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) return;
    vbd.rings = undefined;
    await vbd.thread.rpc.call("disconnect", { id });
  }

  /** Null while no frontend is connected. */
  rings(id: VbdId): FrontendRings | null {
    return this.#vbds.get(key(id))?.rings ?? null;
  }

  async statistics(id: VbdId): Promise<(VbdStatistics & { failure: string | null }) | null> {
    return (await this.#vbds.get(key(id))?.thread.rpc.call("statistics", { id })) ?? null;
  }

  async forget(domid: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.rpc.call("forget", { domid })));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #served(id: VbdId): ServedVbd {
    const vbd = this.#vbds.get(key(id));
    if (!vbd) throw new DiskError("NOT_FOUND", `Cannot use vbd ${key(id)}: its disk is not open`);
    return vbd;
  }

  #leastBusy(): BackendThread {
    const idle = this.#threads.find((thread) => thread.vbds === 0);
    if (idle) return idle;
    if (this.#threads.length < Math.min(availableParallelism(), MAX_THREADS)) return this.#startThread();
    return this.#threads.reduce((least, thread) => (thread.vbds < least.vbds ? thread : least));
  }

  #startThread(): BackendThread {
    const vcpu = FIRST_VCPU + this.#threads.length;
    const workerData: BackendThreadData = { dom0: this.#options.dom0, vcpu, paths: this.#options.paths };
    const worker = new Worker(new URL("./backend-thread.js", import.meta.url), { workerData, name: `blkback-${vcpu}` });
    const rpc = new RpcClient(worker, () => ringDoorbell(this.#dom0, vcpu));
    const thread: BackendThread = { worker, rpc, vbds: 0 };
    worker.on("error", (error) => {
      rpc.failAll(new DiskError("IO", `Cannot reach the backend thread: it ended with ${error.message}`));
      this.#options.onError(`backend thread ${vcpu} ended: ${error.stack ?? error.message}`);
    });
    this.#threads.push(thread);
    return thread;
  }
}

function key(id: VbdId): string {
  return `${id.domid}/${id.devid}`;
}
