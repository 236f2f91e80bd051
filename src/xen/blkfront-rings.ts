/** The rings of one vbd in its frontend: one, or several queues that requests are spread over. They share the disk, not memory. */
import type { UseBytes } from "../block/lent-read.js";
import { BlkfrontQueue, PLAIN_RING, type RingFeatures } from "./blkfront-queue.js";
import type { Request } from "./blkfront-request.js";
import { ABIS, type BlkifAbi, NATIVE_PROTOCOL } from "./blkif/layout.js";
import type { XenPlatform } from "./platform/platform.js";
import type { VcpuLoop } from "./vcpu-loop.js";

export interface RingsOptions {
  /** Default 1. */
  readonly queues?: number;
  /** Pages of each ring as a power of two, default 0. */
  readonly pageOrder?: number;
  readonly abi?: BlkifAbi;
}

export class BlkfrontRings {
  readonly queues: readonly BlkfrontQueue[];
  readonly abi: BlkifAbi;
  /** Whether requests may be sent: what the backend can is known. */
  features: RingFeatures | undefined;

  /** Allocates and grants the rings; leaves nothing behind when memory, grants or ports are used up. */
  constructor(platform: XenPlatform, backend: number, options: RingsOptions = {}) {
    const { queues = 1, pageOrder = 0, abi = ABIS[NATIVE_PROTOCOL]! } = options;
    this.abi = abi;
    const made: BlkfrontQueue[] = [];
    try {
      while (made.length < queues) made.push(new BlkfrontQueue(platform, backend, 2 ** pageOrder, abi));
    } catch (error) {
      for (const queue of made) queue.close((error as Error).message);
      throw error;
    }
    this.queues = made;
  }

  negotiate(features: RingFeatures = PLAIN_RING): void {
    this.features = features;
    for (const queue of this.queues) queue.negotiate(features);
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#leastBusy().read(offset, into);
  }

  lend(offset: number, length: number, use: UseBytes): Promise<void> | null {
    return this.#leastBusy().lend(offset, length, use);
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#leastBusy().write(offset, data);
  }

  /** One queue is enough: a flush covers what was answered before it, on whichever queue. */
  flush(): Promise<void> {
    return this.#leastBusy().flush();
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#leastBusy().discard(offset, length);
  }

  addTo(loop: VcpuLoop): void {
    for (const queue of this.queues) loop.add(queue);
  }

  removeFrom(loop: VcpuLoop): void {
    for (const queue of this.queues) loop.remove(queue);
  }

  /** Resolves when nothing is outstanding any more. */
  async idle(): Promise<void> {
    for (const queue of this.queues) await queue.idle();
  }

  hold(): void {
    for (const queue of this.queues) queue.hold();
  }

  /** What no queue had an answer for, in the order in which it was asked for. */
  leave(reason: string): Request[] {
    return this.queues.flatMap((queue) => queue.leave(reason)).sort((a, b) => a.order - b.order);
  }

  /** Before anything new is sent: each queue keeps the order of what it gets. */
  requeue(requests: readonly Request[]): void {
    const count = this.queues.length;
    for (const [i, queue] of this.queues.entries()) queue.requeue(requests.filter((_, at) => at % count === i));
  }

  close(reason: string): void {
    for (const queue of this.queues) queue.close(reason);
  }

  #leastBusy(): BlkfrontQueue {
    let least = this.queues[0]!;
    for (const queue of this.queues) if (queue.inFlight < least.inFlight) least = queue;
    return least;
  }
}
