/**
 * Entry of a backend thread: one vcpu of Dom0 that serves the rings of several vbds.
 * It blocks on its doorbell while there is nothing to do; whoever posts a message rings it.
 */
import { randomBytes } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import type { BlockDevice } from "../block/device.js";
import { DiskError } from "../errors.js";
import { ringTransfers } from "../os/io-ring.js";
import type { XvdPaths } from "../os/xvd-paths.js";
import type { OpenDisk } from "../stack/disk.js";
import { type LiveChange, type LiveChangeResult, runLiveChange } from "../stack/lvm/live-change.js";
import { resizeFile } from "../stack/resize-disk.js";
import type { DiskFacts, FrontendRings, VbdId } from "../xen/blkback.js";
import { BlkbackQueue } from "../xen/blkback-queue.js";
import {
  type BackRingState,
  totalLatency,
  totalStatistics,
  type VbdLatency,
  type VbdStatistics,
} from "../xen/blkback-statistics.js";
import type { StoredRun } from "../xen/blkfront-extents.js";
import { ABIS } from "../xen/blkif/layout.js";
import type { DomainPages } from "../xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "../xen/platform/simulated/platform.js";
import { VcpuLoop } from "../xen/vcpu-loop.js";
import { type CopyRound, DiskCopy } from "./disk-copy.js";
import { ServedDisk } from "./served-volume.js";
import { storedRuns } from "./stored-runs.js";
import { type RpcMethods, RpcServer } from "./thread-rpc.js";

export interface BackendThreadData {
  readonly dom0: DomainPages;
  readonly vcpu: number;
  /** For disks that are devices of other domains. */
  readonly paths: XvdPaths;
}

export interface OpenParams {
  readonly id: VbdId;
  readonly target: string;
  readonly writable: boolean;
  /** False: the disk could, but the configuration says no. */
  readonly discard: boolean;
  /** Default: chosen by the name. */
  readonly format?: string;
  readonly allowBacking: boolean;
  /** Past the page cache. */
  readonly direct: boolean;
}

export interface ConnectParams {
  readonly id: VbdId;
  readonly rings: FrontendRings;
  /** One for each ring: what the thread before this one had not answered. */
  readonly journals: readonly SharedArrayBuffer[];
  /** Of the frontend's domain. */
  readonly pages: DomainPages;
}

export interface ResizeParams {
  readonly id: VbdId;
  /** Bytes. */
  readonly size: number;
  /** Allow a smaller size. */
  readonly shrink?: boolean;
  readonly dryRun?: boolean;
}

/** A volume that is the disk of a vbd, which may write it: readers keep no others from anything. */
export interface ServedVolume {
  readonly id: VbdId;
  readonly volumeId: string;
}

export interface ChangeVolumesParams {
  /** One of the vbds whose disks are volumes of the group. */
  readonly id: VbdId;
  readonly change: LiveChange;
}

export interface ExtentsParams {
  readonly id: VbdId;
  /** Bytes. As a guest says, who may say anything. */
  readonly offset: number;
  readonly length: number;
}

/** Of all rings of a vbd. */
export type BackendStatistics = VbdStatistics & {
  /** Why a ring was stopped for good. */
  readonly failure: string | null;
  readonly rings: readonly BackRingState[];
};

interface Vbd {
  readonly disk: OpenDisk;
  readonly served: ServedDisk;
  readonly params: OpenParams;
  /** Its queues judge requests by it. */
  readonly facts: DiskFacts;
  queues: BlkbackQueue[];
  /** Those that disconnect: they still count. */
  closing: BlkbackQueue[];
}

/** How often it looks for kept mappings that nobody used. */
const UNUSED_LOOK_MS = 10_000;

const { dom0, vcpu, paths } = workerData as BackendThreadData;
const platform = simulatedPlatform(dom0, vcpu);
const loop = new VcpuLoop(platform.vcpu, {
  blocking: true,
  takeMessages: () => rpc.takeMessages(parentPort!),
  helpers: ringTransfers,
});
const vbds = new Map<string, Vbd>();
const copies = new Map<string, DiskCopy>();
const key = (id: VbdId) => `${id.domid}/${id.devid}`;

const methods: RpcMethods = {
  async open(params: OpenParams): Promise<DiskFacts> {
    const { id, target, writable, format, direct, allowBacking } = params;
    const how = { writable, direct, allowBacking, ...(format ? { format } : {}) };
    const served = await ServedDisk.open(target, { ...how, paths, warn });
    const { disk } = served;
    const facts = factsOf(disk.device, params);
    if (facts.size === 0) await refuseSmall(disk.device, facts);
    vbds.set(key(id), { disk, served, params, facts, queues: [], closing: [] });
    return facts;
  },

  /** Serves all rings of the vbd, or none of them. */
  async connect({ id, rings, journals, pages }: ConnectParams): Promise<void> {
    platform.introduce(pages);
    const vbd = vbds.get(key(id));
    if (!vbd) throw new Error(`no disk is open for vbd ${key(id)}`);
    const { persistent, maxIndirectSegments } = rings;
    const common = { frontendDomid: id.domid, abi: ABIS[rings.protocol]!, persistent, maxIndirectSegments };
    try {
      for (const [i, ring] of rings.rings.entries()) {
        const address = { ...common, ...ring, journal: journals[i]! };
        const queue = new BlkbackQueue(platform, vbd.disk.device, vbd.facts, address, () => loop.wake());
        vbd.queues.push(queue);
        loop.add(queue);
      }
    } catch (error) {
      await disconnect(vbd);
      throw error;
    }
  },

  disconnect: ({ id }: { id: VbdId }) => disconnect(vbds.get(key(id))),

  async flush({ id }: { id: VbdId }): Promise<void> {
    const vbd = vbds.get(key(id));
    if (vbd?.facts.writable) await vbd.disk.device.flush();
  },

  async extents({ id, offset, length }: ExtentsParams): Promise<readonly StoredRun[]> {
    const vbd = vbds.get(key(id));
    return vbd ? storedRuns(vbd.disk.device, vbd.facts, offset, length) : [];
  },

  async copyStart({ id, path, force }: { id: VbdId; path: string; force: boolean }): Promise<void> {
    const vbd = vbds.get(key(id));
    if (!vbd) throw new Error(`no disk is open for vbd ${key(id)}`);
    copies.set(key(id), await DiskCopy.start(vbd.disk.device, path, force));
  },
  copyRound: ({ id }: { id: VbdId }): Promise<CopyRound> => copies.get(key(id))!.round(),
  copyProgress: ({ id }: { id: VbdId }) => copies.get(key(id))?.progress ?? { done: 0, total: 0 },
  async copyEnd({ id, commit }: { id: VbdId; commit: boolean }): Promise<void> {
    const copy = copies.get(key(id));
    copies.delete(key(id));
    await (commit ? copy?.commit() : copy?.abort());
  },

  async close({ id }: { id: VbdId }): Promise<void> {
    const vbd = vbds.get(key(id));
    vbds.delete(key(id));
    await copies.get(key(id))?.abort();
    copies.delete(key(id));
    await disconnect(vbd);
    try {
      if (vbd?.facts.writable) await vbd.disk.device.flush(); // a detached disk is as durable as a closed one
    } finally {
      await vbd?.disk.device.close();
    }
  },

  /** Nothing is in flight while the file changes: a write that ends after the cut would make it large again. */
  async resize({ id, size, ...options }: ResizeParams): Promise<DiskFacts> {
    const vbd = vbds.get(key(id));
    if (!vbd) throw new Error(`no disk is open for vbd ${key(id)}`);
    const { disk, facts, params } = vbd;
    if (options.dryRun) await resizeFile(disk, size, options);
    else
      await quiesced(vbd.queues, async () => {
        await resizeFile(disk, size, options);
        Object.assign(facts, factsOf(disk.device, params));
      });
    return facts;
  },

  volumes(): readonly ServedVolume[] {
    return [...vbds.values()].flatMap(({ served, facts, params: { id } }) => {
      const { volume } = served;
      return volume && facts.writable ? [{ id, volumeId: volume.volumeId }] : [];
    });
  },

  /** The volumes of the group that this thread serves stand still while it changes, and are opened anew. */
  async changeVolumes({ id, change }: ChangeVolumesParams): Promise<LiveChangeResult> {
    const group = vbds.get(key(id))?.served.volume?.groupId;
    const waiting = [...vbds.values()].filter(({ served }) => served.volume && served.volume.groupId === group);
    let result: LiveChangeResult = { steps: [], diff: [] };
    const work = async () => {
      const own = waiting.map(({ served }) => served.volume!.volumeId);
      for (const { facts, disk } of waiting) if (facts.writable) await disk.device.flush();
      const { now, host, command } = change;
      result = await runLiveChange({ paths, warn, random: randomBytes, now, host, command }, change, own);
      for (const { served } of waiting) await served.suspend();
      for (const { served } of waiting) await served.resume();
    };
    await quiesced(
      waiting.flatMap(({ queues }) => queues),
      work,
    );
    return result;
  },

  statistics({ id }: { id: VbdId }): BackendStatistics | null {
    const vbd = vbds.get(key(id));
    const queues = vbd ? [...vbd.queues, ...vbd.closing] : [];
    if (queues.length === 0) return null;
    return {
      ...totalStatistics(queues),
      failure: queues.find(({ failure }) => failure)?.failure?.message ?? null,
      rings: queues.map(({ state }) => state),
    };
  },

  latency({ id }: { id: VbdId }): VbdLatency | null {
    const vbd = vbds.get(key(id));
    return vbd ? totalLatency([...vbd.queues, ...vbd.closing]) : null;
  },

  forget: ({ domid }: { domid: number }) => platform.forget(domid),
};

const rpc = new RpcServer(parentPort!, methods, (run) => loop.during(run));
void loop.run();
setInterval(() => {
  const now = performance.now();
  for (const { queues } of vbds.values()) for (const { grants } of queues) grants.dropUnused(now);
}, UNUSED_LOOK_MS);

/** To the daemon's log. */
function warn(message: string): void {
  parentPort!.postMessage({ event: "log", message });
}

async function disconnect(vbd: Vbd | undefined): Promise<void> {
  for (const queue of vbd?.queues.splice(0) ?? []) {
    vbd!.closing.push(queue);
    await queue.close();
    loop.remove(queue);
  }
  vbd?.closing.splice(0);
}

/** Runs `task` while nothing is in flight on any of the queues. */
function quiesced(queues: readonly BlkbackQueue[], task: () => Promise<void>): Promise<void> {
  const [first, ...others] = queues;
  return first ? first.quiesced(() => quiesced(others, task)) : task();
}

async function refuseSmall(device: BlockDevice, { sectorSize }: DiskFacts): Promise<never> {
  await device.close();
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot attach ${device.label}: it has ${device.size} bytes, allowed is at least one sector of ${sectorSize}`,
  );
}

function factsOf(device: BlockDevice, { writable, discard }: OpenParams): DiskFacts {
  const sectorSize = device.blockSize > 512 ? 4096 : 512;
  const hiddenBytes = device.size % sectorSize;
  const changeable = writable && device.writable;
  return {
    size: device.size - hiddenBytes,
    hiddenBytes,
    sectorSize,
    physicalSectorSize: sectorSize,
    writable: changeable,
    canDiscard: discard && changeable,
    discardGranularity: Math.max(sectorSize, 4096),
  };
}
