/** A real backend thread, and guests whose rings the test itself writes: what a hostile frontend sends reaches the thread as it is. */
import { BackendPool } from "#src/dom0/backend-pool.js";
import type { FrontendRings } from "#src/xen/blkback.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { parseVdev } from "#src/xen/blkif/vdev.js";
import { peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { Hypervisor } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";

const STRIDE = 112;
const SLOTS = 32;

export interface WireSegment {
  readonly gref: number;
  readonly first?: number;
  readonly last?: number;
}

export interface WireRequest {
  readonly op: number;
  readonly segments?: readonly WireSegment[];
  readonly nrSegments?: number;
  readonly sector?: bigint;
  readonly nrSectors?: bigint;
}

export function backendOfThreads(dir: string) {
  const hypervisor = new Hypervisor(1 << 20);
  const errors: string[] = [];
  const pool = new BackendPool({
    dom0: hypervisor.dom0,
    paths: { home: dir, run: dir },
    now: () => 0,
    pagesOf: (domid) => hypervisor.pages(domid),
    releaseVcpu: (vcpu) => hypervisor.releaseVcpu(0, vcpu),
    onRestarted: () => {},
    onLost: () => {},
    onError: (message) => errors.push(message),
  });
  return {
    hypervisor,
    pool,
    errors,
    guest: (disk: string, writable = true) => rawGuest(hypervisor, pool, disk, writable),
  };
}

/** One domain with one connected ring of one page. */
async function rawGuest(hypervisor: Hypervisor, pool: BackendPool, disk: string, writable: boolean) {
  const { pages } = hypervisor.create(4 << 20);
  const guest = simulatedPlatform(pages, 0);
  guest.introduce(peerView(hypervisor.dom0));
  const id = { domid: pages.domid, devid: 51712 };
  await pool.add(id, { vdev: parseVdev("xvda"), target: disk, writable });
  const ringPage = guest.grants.allocatePages(1);
  const view = new DataView(ringPage.bytes.buffer, ringPage.bytes.byteOffset, 4096);
  const words = new Int32Array(ringPage.bytes.buffer, ringPage.bytes.byteOffset, 1024);
  const data = guest.grants.allocatePages(32);
  const refs = Array.from({ length: 32 }, (_, i) => guest.grants.grantAccess(0, data.firstFrame + i, false));
  let port = 0;
  let produced = 0;
  const answered = () => Atomics.load(words, 2) >>> 0;
  const settled = async (until: number) => {
    for (let tries = 0; answered() !== until && tries < 2000; tries++) {
      guest.vcpu.dispatch();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return answered() === until;
  };
  const put = (request: WireRequest, times = 1) => {
    const { op, segments = [], nrSegments = segments.length, sector = 0n, nrSectors } = request;
    for (let i = 0; i < times; i++, produced++) {
      const at = 64 + (produced % SLOTS) * STRIDE;
      view.setUint8(at, op);
      view.setUint8(at + 1, nrSegments);
      view.setBigUint64(at + 8, BigInt(produced), true);
      view.setBigUint64(at + 16, sector, true);
      if (nrSectors !== undefined) view.setBigUint64(at + 24, nrSectors, true);
      for (const [s, { gref, first = 0, last = 7 }] of segments.entries()) {
        view.setUint32(at + 24 + s * 8, gref, true);
        view.setUint8(at + 28 + s * 8, first);
        view.setUint8(at + 29 + s * 8, last);
      }
    }
    Atomics.store(words, 0, produced);
    guest.events.notify(port);
  };
  const connect = async () => {
    ringPage.bytes.fill(0);
    view.setUint32(4, 1, true);
    view.setUint32(12, 1, true);
    produced = 0;
    port = guest.events.allocUnbound(0);
    const ringRef = guest.grants.grantAccess(0, ringPage.firstFrame, false);
    const rings: FrontendRings = {
      protocol: ABIS["x86_64-abi"]!.protocol,
      persistent: false,
      maxIndirectSegments: 256,
      rings: [{ ringRefs: [ringRef], eventChannel: port }],
    };
    await pool.connect(id, rings);
    return ringRef;
  };
  const ringRef = await connect();
  return {
    id,
    guest,
    data,
    refs,
    ringRef,
    words,
    put,
    settled,
    /** The status that the next request is answered with; undefined when it is not answered in time. */
    async verdict(request: WireRequest): Promise<number | undefined> {
      const index = produced;
      put(request);
      if (!(await settled(index + 1))) return undefined;
      return view.getInt16(64 + (index % SLOTS) * STRIDE + 10, true);
    },
    setReqProd(value: number) {
      Atomics.store(words, 0, value | 0);
      guest.events.notify(port);
    },
    storm(times: number) {
      for (let i = 0; i < times; i++) guest.events.notify(port);
    },
    mapped: () => hypervisor.domain(id.domid)?.foreignMaps ?? 0,
  };
}
