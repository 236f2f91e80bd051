// Our contestant: a guest's thread whose blkfront reads through a real ring from a backend thread of Dom0, which serves the file.
import { Worker } from "node:worker_threads";
import { RpcClient } from "../../dist/dom0/thread-rpc.js";
import { createDomainPages, DomainView, peerView } from "../../dist/xen/platform/simulated/domain-pages.js";
import { ringDoorbell } from "../../dist/xen/platform/simulated/event-channels.js";

const VCPU = 1;
const ID = { domid: 1, devid: 51712 };

/** What our blkfront and blkback agree on by themselves. */
export const DEFAULTS = { queues: 1, pageOrder: 0, maxSegments: 32, persistent: true };

/** Connects a vbd over `file`; `measure` runs a workload inside the guest for `seconds` and gives { iops, bandwidth }. */
export async function startRing(file, options = {}) {
  const dom0 = createDomainPages(0, 1 << 20);
  const own = createDomainPages(1, 256 << 20);
  const backend = new Worker(new URL("../../dist/dom0/backend-thread.js", import.meta.url), {
    workerData: { dom0, vcpu: VCPU, paths: { run: "/", home: "/" } },
  });
  const view = new DomainView(dom0);
  const rpc = new RpcClient(backend, () => ringDoorbell(view, VCPU));
  const facts = await rpc.call("open", { id: ID, target: file, writable: false });
  const guest = new Worker(new URL("./ring-guest.js", import.meta.url), {
    workerData: { own, dom0: peerView(dom0), size: facts.size, options: { ...DEFAULTS, ...options } },
  });
  const guestRpc = new RpcClient(guest);
  const rings = await guestRpc.call("offer");
  await rpc.call("connect", { id: ID, rings, pages: own });
  return {
    name: "xvdkit",
    measure: ({ rw, blockSize, depth }, seconds = 4) => guestRpc.call("measure", { rw, blockSize, depth, seconds }),
    async stop() {
      await guest.terminate();
      await rpc.call("close", { id: ID });
      await backend.terminate();
    },
  };
}
