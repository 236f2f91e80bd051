// Our contestant: a guest's thread whose blkfront reads through a real ring from a backend thread of Dom0, which serves the file.

import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { RpcClient } from "../../dist/dom0/thread-rpc.js";
import { ABIS } from "../../dist/xen/blkif/layout.js";
import { createDomainPages, DomainView, peerView } from "../../dist/xen/platform/simulated/domain-pages.js";
import { ringDoorbell } from "../../dist/xen/platform/simulated/event-channels.js";
import { ringSize } from "../../dist/xen/ring.js";
import { ringJournalBytes } from "../../dist/xen/ring-journal.js";

/** What our blkfront and blkback agree on by themselves. */
export const DEFAULTS = { queues: 1, pageOrder: 0, maxSegments: 32, persistent: true };

/** Connects a vbd over `file`; `measure` runs a workload inside the guest for `seconds` and gives { iops, bandwidth }. */
export async function startRing(file, options = {}) {
  return startRings([file], options);
}

/** A guest for each file, over as many backend threads as there are cores; figures are those of all guests together. */
export async function startRings(files, { direct = false, ...options } = {}) {
  const dom0 = createDomainPages(0, 1 << 20);
  const view = new DomainView(dom0);
  const backends = Array.from({ length: Math.min(files.length, availableParallelism()) }, (_, i) =>
    startBackend(dom0, view, 1 + i),
  );
  const guests = [];
  for (const [i, file] of files.entries()) {
    const { rpc } = backends[i % backends.length];
    guests.push({ backend: rpc, ...(await startGuest({ dom0, rpc, file, domid: i + 1, direct, options })) });
  }
  return {
    name: "xvdkit",
    async measure({ rw, blockSize, depth }, seconds = 4) {
      const figures = await Promise.all(
        guests.map((guest) => guest.rpc.call("measure", { rw, blockSize, depth, seconds })),
      );
      const sum = (key) => figures.reduce((total, figure) => total + figure[key], 0);
      return { iops: sum("iops"), bandwidth: sum("bandwidth") };
    },
    async stop() {
      for (const { worker, backend, id } of guests) {
        await worker.terminate();
        await backend.call("close", { id });
      }
      for (const { worker } of backends) await worker.terminate();
    },
  };
}

function startBackend(dom0, view, vcpu) {
  const worker = new Worker(new URL("../../dist/dom0/backend-thread.js", import.meta.url), {
    workerData: { dom0, vcpu, paths: { run: "/", home: "/" } },
  });
  return { worker, rpc: new RpcClient(worker, () => ringDoorbell(view, vcpu)) };
}

async function startGuest({ dom0, rpc, file, domid, direct, options }) {
  const id = { domid, devid: 51712 };
  const own = createDomainPages(domid, 256 << 20);
  const facts = await rpc.call("open", { id, target: file, writable: false, discard: true, direct });
  const worker = new Worker(new URL("./ring-guest.js", import.meta.url), {
    workerData: { own, dom0: peerView(dom0), size: facts.size, options: { ...DEFAULTS, ...options } },
  });
  const guestRpc = new RpcClient(worker);
  const rings = await guestRpc.call("offer");
  const { stride } = ABIS[rings.protocol];
  const journals = rings.rings.map(
    ({ ringRefs }) => new SharedArrayBuffer(ringJournalBytes(ringSize(ringRefs.length * 4096, stride), stride)),
  );
  await rpc.call("connect", { id, rings, journals, pages: own });
  return { id, worker, rpc: guestRpc };
}
