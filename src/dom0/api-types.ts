/** What the control API takes and gives; the JSON of `attach`, `list` and `domain list`. */
import type { LiveChange } from "../stack/lvm/live-change.js";
import type { FrontendRings } from "../xen/blkback.js";
import type { VbdLatency } from "../xen/blkback-statistics.js";
import type { FrontRingState } from "../xen/blkfront-state.js";
import type { DomainIdentity, VbdOptions } from "../xen/toolstack.js";
import type { Journal } from "../xen/vbd-journal.js";
import type { BackendStatistics } from "./backend-thread.js";
import type { GuestClient, GuestPartition } from "./guest-disk.js";

export const KERNEL_CHOICES = ["auto", "always", "never"] as const;
export type KernelChoice = (typeof KERNEL_CHOICES)[number];

export interface AttachRequest {
  /** An absolute path or another DISK that the daemon can open. */
  readonly disk: string;
  /** Name or id; default Domain-0. */
  readonly domain?: string;
  /** Default: the first free letter. */
  readonly vdev?: string;
  readonly access?: "rw" | "ro";
  /** Whether Domain-0's disk becomes a block device of this machine's kernel: `always` fails where it cannot. Default never. */
  readonly kernel?: KernelChoice;
  /** What an xl disk specification says beyond that. */
  readonly options?: VbdOptions;
}

export interface ChangeVolumesRequest {
  readonly change: LiveChange;
  /** Ids of volumes of its group: one of them is attached. */
  readonly volumes: readonly string[];
}

export interface ResizeRequest {
  /** Name or id. */
  readonly domain: string;
  /** Bytes. */
  readonly size: number;
  /** Allow a smaller size. */
  readonly shrink?: boolean;
  /** Only tell whether it may be. */
  readonly dryRun?: boolean;
}

/** What a domain's configuration says of it. `memory` and `maxmem` are MiB. */
export interface DomainConfig extends DomainIdentity {
  readonly memory?: number;
  readonly maxmem?: number;
}

export interface CreateDomainRequest {
  readonly name: string;
  readonly config?: DomainConfig;
  /** Attached in this order; `domain` of each is ignored. */
  readonly disks?: readonly AttachRequest[];
}

export interface AttachedDevice {
  readonly domain: string;
  readonly domid: number;
  readonly vdev: string;
  readonly device: string;
  readonly number: number;
  readonly disk: string;
  readonly size: number; // bytes
  /** Bytes at the disk's end that fill no sector: the guest does not see them. */
  readonly "hidden-bytes": number;
  readonly access: "rw" | "ro";
  /** The state of both ends, or `frontend/backend` where they differ. */
  readonly state: string;
  readonly "frontend-state": number;
  readonly "backend-state": number;
  readonly partitions: readonly GuestPartition[];
  readonly socket: string | null;
  readonly connections: number;
  /** The processes that are connected, one for each connection. */
  readonly clients: readonly GuestClient[];
  readonly "kernel-device": string | null;
  /** Of an attach that would have had one: why there is none. */
  readonly "kernel-problem"?: string;
  /** What the frontend published: protocol, and each ring's grant references and event channel; null while it is not connected. */
  readonly ring: FrontendRings | null;
  readonly statistics: BackendStatistics | null;
  /** As the guest's driver sees them. */
  readonly "frontend-rings": readonly FrontRingState[];
}

/** One key of a vbd's directories and who writes it: the toolstack when it creates the vbd, the step that opens the disk, or a driver. */
export interface StoreKey {
  /** `queue-0/ring-ref` within a queue's own directory. */
  readonly key: string;
  /** Its first 256 characters. */
  readonly value: string;
  readonly by: "toolstack" | "script" | "backend" | "frontend";
}

/** What both ends agreed on, in the names of blkif.h; sizes in bytes, `sectors` of 512. */
export interface NegotiatedFeatures {
  readonly protocol: string;
  /** Pages of each ring are 2 to the power of it. */
  readonly "ring-page-order": number;
  readonly "multi-queue-num-queues": number;
  /** Segments of a request: what the backend takes, and the most that the frontend sends. */
  readonly "feature-max-indirect-segments": number;
  readonly "max-segments": number | null;
  readonly "feature-persistent": boolean;
  readonly "feature-flush-cache": boolean;
  readonly "feature-barrier": boolean;
  readonly "feature-discard": boolean;
  readonly "discard-granularity": number | null;
  readonly "discard-secure": boolean;
  readonly "sector-size": number | null;
  readonly "physical-sector-size": number | null;
  readonly sectors: number | null;
  /** VDISK_* bits. */
  readonly info: number | null;
}

/** All that can be seen of a device: `list --verbose` and `attach --explain`. */
export interface DeviceDetails extends AttachedDevice {
  readonly journal: Journal;
  readonly keys: { readonly backend: readonly StoreKey[]; readonly frontend: readonly StoreKey[] };
  /** Null while it is not connected. */
  readonly features: NegotiatedFeatures | null;
  readonly grants: {
    /** Of the rings' pages. */
    readonly "ring-refs": readonly number[];
    /** Mapped now beside the rings' pages, and those of them that stay mapped. */
    readonly mapped: number;
    readonly persistent: number;
  };
  /** For each ring: the frontend's port, and Dom0's. */
  readonly "event-channels": readonly { readonly frontend: number; readonly backend: number }[];
}

/** One device's counters since its rings were connected. */
export interface DeviceIo {
  readonly domain: string;
  readonly domid: number;
  readonly vdev: string;
  readonly number: number;
  readonly disk: string;
  readonly size: number; // bytes
  /** Both ends are. */
  readonly connected: boolean;
  /** Null while it has no rings. */
  readonly statistics: BackendStatistics | null;
  readonly latency: VbdLatency | null;
}

/** All devices at one time. */
export interface IoSample {
  /** Milliseconds of the daemon's own clock, which never goes back. */
  readonly time: number;
  readonly domains: readonly { readonly domid: number; readonly name: string; readonly state: DomainState }[];
  readonly devices: readonly DeviceIo[];
}

/**
 * xl's words. `shutdown`: its end is being tidied up; `suspended`: it waits to go on; `dying`: destroyed, but somebody
 * still has pages of it mapped.
 */
export type DomainState = "running" | "paused" | "shutdown" | "suspended" | "crashed" | "dying";

export interface DomainInfo {
  readonly domid: number;
  readonly name: string;
  readonly state: DomainState;
  readonly devices: readonly AttachedDevice[];
}

export interface SaveRequest {
  /** An absolute path. */
  readonly file: string;
  /** Replace an existing file. */
  readonly force?: boolean;
  readonly leaveRunning?: boolean;
}

export interface SaveResult {
  readonly domain: string;
  readonly file: string;
  /** Bytes. */
  readonly size: number;
  readonly running: boolean;
  /** Requests that had no answer and are in the file. */
  readonly outstanding: number;
}

export interface RestoreRequest {
  readonly file: string;
  /** Restore although a disk has changed since. */
  readonly force?: boolean;
  readonly paused?: boolean;
}

export interface MigrateRequest {
  /** XVD_HOME of the other daemon, absolute. */
  readonly to: string;
  /** Its XVD_RUN, where several daemons run in that home. */
  readonly toRun?: string;
  /** Copy the disks into its `images` folder while the guest runs; else they are shared. */
  readonly withDisks?: boolean;
  /** With `withDisks`: replace files of the same names there. */
  readonly force?: boolean;
}

export interface MigrateResult {
  readonly domain: string;
  /** Under its new id. */
  readonly domid: number;
  readonly home: string;
  readonly run: string;
  /** Requests that the other host did in this one's place. */
  readonly outstanding: number;
  /** Clients that stay connected here and are served from there. */
  readonly connections: number;
  readonly disks: readonly { vdev: string; from: string; to: string; copied: boolean }[];
}

/** Where a migration stands. Bytes of the disk that is being copied. */
export interface MigrationProgress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

/** What a host is asked before a domain comes to it. */
export interface ArrivalPlan extends CreateDomainRequest {
  /** Bytes of guest memory. */
  readonly memory: number;
  /** By the disks' order: whether it comes with the domain, rather than lying there already. */
  readonly copied: readonly boolean[];
}

/** A domain that has come. */
export interface Arrival {
  readonly domid: number;
  readonly disks: readonly {
    readonly devid: number;
    readonly socket: string;
    readonly writable: boolean;
    /** How the outstanding requests that came with it ended: an error's text or null. */
    readonly statuses: readonly (string | null)[];
  }[];
}

/** What the daemon writes down, and what the next one finds after a crash. */
export interface Dom0Record {
  readonly pid: number;
  readonly started: string;
  /** Its XVD_RUN; records of older daemons have none. */
  readonly run?: string;
  readonly devices: readonly { domain: string; vdev: string; disk: string; access: "rw" | "ro" }[];
}

export interface Dom0Status {
  readonly running: boolean;
  readonly pid: number | null;
  readonly started: string | null;
  readonly xenstored: string | null;
  readonly domains: readonly DomainInfo[];
  /** What a daemon that did not stop in order was holding. */
  readonly found: Dom0Record | null;
}
