/** What the control API takes and gives; the JSON of `attach`, `list` and `domain list`. */
import type { FrontendRings } from "../xen/blkback.js";
import type { FrontRingState } from "../xen/blkfront-queue.js";
import type { DomainIdentity, VbdOptions } from "../xen/toolstack.js";
import type { BackendStatistics } from "./backend-thread.js";
import type { GuestPartition } from "./guest-disk.js";

export interface AttachRequest {
  /** An absolute path or another DISK that the daemon can open. */
  readonly disk: string;
  /** Name or id; default Domain-0. */
  readonly domain?: string;
  /** Default: the first free letter. */
  readonly vdev?: string;
  readonly access?: "rw" | "ro";
  /** What an xl disk specification says beyond that. */
  readonly options?: VbdOptions;
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
  readonly "kernel-device": string | null;
  /** What the frontend published: protocol, and each ring's grant references and event channel; null while it is not connected. */
  readonly ring: FrontendRings | null;
  readonly statistics: BackendStatistics | null;
  /** As the guest's driver sees them. */
  readonly "frontend-rings": readonly FrontRingState[];
}

export interface DomainInfo {
  readonly domid: number;
  readonly name: string;
  /** dying: destroyed, but somebody still has pages of it mapped. */
  readonly state: "running" | "paused" | "shutdown" | "crashed" | "dying";
  readonly devices: readonly AttachedDevice[];
}

/** What the daemon writes down, and what the next one finds after a crash. */
export interface Dom0Record {
  readonly pid: number;
  readonly started: string;
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
