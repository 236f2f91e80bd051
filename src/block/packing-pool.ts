/** Threads that pack units, one for each core. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Packing } from "../bytes/packing.js";
import type { PackAnswer, PackingThreadData, PackRequest } from "./packing-thread.js";

export interface Packed {
  /** What was given: its array has gone to the thread and come back. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Of each unit. */
  readonly packed: readonly Uint8Array[];
}

interface Thread {
  readonly worker: Worker;
  waiting: number;
}

export class PackingPool {
  readonly #threads: Thread[];
  readonly #answers = new Map<number, { thread: Thread; resolve(packed: Packed): void; reject(error: Error): void }>();
  #next = 0;
  #failure: Error | undefined;

  constructor(packing: Packing, unit: number, threads = availableParallelism()) {
    const data: PackingThreadData = { packing, unit };
    this.#threads = Array.from({ length: threads }, () => this.#start(data));
  }

  get size(): number {
    return this.#threads.length;
  }

  /** `data` must have its buffer for itself; it is not to be touched until the answer is there. */
  pack(data: Uint8Array<ArrayBuffer>): Promise<Packed> {
    if (this.#failure) return Promise.reject(this.#failure);
    const thread = this.#threads.reduce((least, one) => (one.waiting < least.waiting ? one : least));
    const id = this.#next++;
    thread.waiting++;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { thread, resolve, reject });
      thread.worker.postMessage({ id, data } satisfies PackRequest, [data.buffer]);
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(workerData: PackingThreadData): Thread {
    const worker = new Worker(new URL("./packing-thread.js", import.meta.url), {
      workerData,
      name: "packing",
      resourceLimits: { maxYoungGenerationSizeMb: 2 }, // packed bytes are freed early, not collected late
    });
    const thread: Thread = { worker, waiting: 0 };
    worker.on("message", ({ id, data, packed }: PackAnswer) => {
      thread.waiting--;
      this.#answers.get(id)!.resolve({ data, packed });
      this.#answers.delete(id);
    });
    worker.on("error", (error) => this.#failed(thread, error));
    return thread;
  }

  #failed(thread: Thread, error: Error): void {
    this.#failure = error;
    for (const [id, answer] of this.#answers) {
      if (answer.thread !== thread) continue;
      answer.reject(error);
      this.#answers.delete(id);
    }
  }
}
