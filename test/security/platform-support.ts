/** Threads of domains that really race: each runs a body of JavaScript with its domain's `platform`. */
import { Worker } from "node:worker_threads";
import { type DomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";

/** A host with a backend thread's platform (Dom0's vcpu 1), and `count` running guests that it knows. */
export function host(count = 1, memory = 1 << 20) {
  const xen = new Hypervisor(memory);
  const dom0 = simulatedPlatform(xen.dom0, 1);
  const guests = Array.from({ length: count }, () => {
    const { pages } = xen.create(memory);
    xen.unpause(pages.domid);
    const guest = simulatedPlatform(pages, 0);
    guest.introduce(peerView(xen.dom0));
    dom0.introduce(pages);
    const entries = new Int32Array(pages.grantTable);
    return {
      domid: pages.domid,
      pages,
      guest,
      entries,
      /** A page, granted to Dom0. */
      grant(readonly = false) {
        const page = guest.grants.allocatePages(1);
        return { page, ref: guest.grants.grantAccess(0, page.firstFrame, readonly) };
      },
      /** Flags of an entry without the pins' bits, and with them. */
      flags: (ref: number) => entries[ref * 2]! & 0xffff,
    };
  });
  return { xen, dom0, guests };
}

export interface Racer {
  /** Counted up by the thread in `words[1]`. */
  readonly rounds: number;
  /** Until it has gone round that often. */
  reached(rounds: number): Promise<void>;
  /** Lets the loop end, and gives what the body returned. */
  stop(): Promise<unknown>;
  /** Ends the thread wherever it is. */
  kill(): Promise<void>;
}

/**
 * Starts a thread of `own`'s vcpu that knows `others`. `round` is the body of a function of `platform`, `GNTST`-free, that is
 * called again and again with `(platform, data, state)` until `stop`; `state` is an object that it may keep things in and that `stop` gives.
 */
export function race(
  own: DomainPages,
  vcpu: number,
  others: readonly DomainPages[],
  round: string,
  data: object = {},
): Racer {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(RACER, {
    eval: true,
    workerData: {
      module: import.meta.resolve("#src/xen/platform/simulated/platform.js"),
      own,
      vcpu,
      others,
      round,
      data,
      words,
    },
  });
  let failure: Error | undefined;
  const ended = new Promise<unknown>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", (error: Error) => {
      failure = error;
      reject(error);
    });
    worker.once("exit", () => resolve(undefined));
  });
  ended.catch(() => {}); // told by `reached` or `stop`
  return {
    get rounds() {
      return Atomics.load(words, 1);
    },
    async reached(rounds) {
      while (Atomics.load(words, 1) < rounds) {
        if (failure) throw failure;
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    async stop() {
      Atomics.store(words, 0, 1);
      const state = await ended;
      await worker.terminate();
      return state;
    },
    async kill() {
      await worker.terminate();
    },
  };
}

const RACER = `
  const { parentPort, workerData: { module, own, vcpu, others, round, data, words } } = require("node:worker_threads");
  import(module).then(({ simulatedPlatform }) => {
    const platform = simulatedPlatform(own, vcpu);
    for (const other of others) platform.introduce(other);
    const run = new Function("platform", "data", "state", round);
    const state = {};
    while (Atomics.load(words, 0) === 0) {
      run(platform, data, state);
      Atomics.add(words, 1, 1);
    }
    parentPort.postMessage(state);
  });
`;
