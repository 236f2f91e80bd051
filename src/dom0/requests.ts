/** The bodies of control requests, checked: they come from a socket. */
import { DiskError } from "../errors.js";
import type { LiveChange } from "../stack/lvm/live-change.js";
import { BACKEND_OFFERS } from "../xen/blkif/features.js";
import type { VbdOptions } from "../xen/toolstack.js";
import { MAX_MEMORY, MAX_VCPUS } from "../xen/xl/config.js";
import {
  type ArrivalPlan,
  type AttachRequest,
  type ChangeVolumesRequest,
  type CreateDomainRequest,
  type DomainConfig,
  KERNEL_CHOICES,
  type KernelChoice,
  type MigrateRequest,
  type ResizeRequest,
  type RestoreRequest,
  type SaveRequest,
} from "./api-types.js";

export type Body = Readonly<Record<string, unknown>>;

/** More than a domain has device numbers for in practice. */
const MAX_DISKS = 4096;
/** What may be asked for; a backend offers fewer. */
const MAX_QUEUES = 64;

export function attachRequest(body: Body): AttachRequest {
  const { access = "rw" } = body;
  if (access !== "rw" && access !== "ro")
    throw new DiskError("UNSUPPORTED", `Cannot attach: access is ${JSON.stringify(access)}, allowed rw and ro`, {
      details: { usage: true },
    });
  return {
    disk: text(body, "disk"),
    access,
    ...optional(body, "domain", text),
    ...optional(body, "vdev", text),
    ...optional(body, "kernel", kernelChoice),
    ...optional(body, "options", vbdOptions),
  };
}

function kernelChoice(body: Body, key: string): KernelChoice {
  const value = body[key];
  if (!KERNEL_CHOICES.some((choice) => choice === value)) throw wrong(key, value, KERNEL_CHOICES.join(", "));
  return value as KernelChoice;
}

export function createDomainRequest(body: Body): CreateDomainRequest {
  const { disks = [] } = body;
  if (!Array.isArray(disks) || disks.length > MAX_DISKS)
    throw wrong("disks", Array.isArray(disks) ? `${disks.length} disks` : disks, `a list of up to ${MAX_DISKS}`);
  return {
    name: text(body, "name"),
    ...optional(body, "config", domainConfig),
    disks: disks.map((disk, i) => attachRequest(object({ [`disks[${i}]`]: disk }, `disks[${i}]`))),
  };
}

export function resizeRequest(body: Body): ResizeRequest {
  return {
    domain: text(body, "domain"),
    size: count(Number.MAX_SAFE_INTEGER)(body, "size"),
    ...optional(body, "shrink", flag),
    ...optional(body, "dryRun", flag),
  };
}

const LIVE_CHANGES = ["create-snapshot", "remove-snapshot", "reload"];

/** What a change asks for beyond its kind is judged by its planner. */
export function changeVolumesRequest(body: Body): ChangeVolumesRequest {
  const change = object(body, "change");
  const asked = object(change, "change");
  if (!LIVE_CHANGES.includes(text(asked, "kind"))) throw wrong("kind", asked.kind, LIVE_CHANGES.join(", "));
  if (asked.kind === "create-snapshot") object(asked, "request");
  if (asked.kind === "remove-snapshot") text(asked, "name");
  return {
    volumes: texts(body, "volumes"),
    change: {
      group: text(change, "group"),
      devices: texts(change, "devices"),
      autobackup: flag(change, "autobackup"),
      now: count(Number.MAX_SAFE_INTEGER)(change, "now"),
      host: text(change, "host"),
      command: text(change, "command"),
      change: asked as unknown as LiveChange["change"],
    },
  };
}

function texts(body: Body, key: string): string[] {
  const list = body[key];
  if (Array.isArray(list) && list.length <= MAX_DISKS && list.every((each) => typeof each === "string")) return list;
  throw wrong(key, list, "a list of texts");
}

export function shutdownRequest(body: Body): { reboot?: boolean } {
  return optional(body, "reboot", flag);
}

export function saveRequest(body: Body): SaveRequest {
  return { file: text(body, "file"), ...optional(body, "force", flag), ...optional(body, "leaveRunning", flag) };
}

export function restoreRequest(body: Body): RestoreRequest {
  return { file: text(body, "file"), ...optional(body, "force", flag), ...optional(body, "paused", flag) };
}

export function migrateRequest(body: Body): MigrateRequest {
  return {
    to: text(body, "to"),
    ...optional(body, "toRun", text),
    ...optional(body, "withDisks", flag),
    ...optional(body, "force", flag),
  };
}

export function arrivalPlan(body: Body): ArrivalPlan {
  const { copied } = body;
  if (!Array.isArray(copied)) throw wrong("copied", copied, "a list");
  return { ...createDomainRequest(body), memory: count(2 ** 40)(body, "memory"), copied: copied.map(Boolean) };
}

function domainConfig(body: Body, key: string): DomainConfig {
  const config = object(body, key);
  return {
    ...optional(config, "type", text),
    ...optional(config, "uuid", text),
    ...optional(config, "memory", count(MAX_MEMORY)),
    ...optional(config, "maxmem", count(MAX_MEMORY)),
    ...optional(config, "vcpus", count(MAX_VCPUS)),
  };
}

function vbdOptions(body: Body, key: string): VbdOptions {
  const options = object(body, key);
  const { backendType } = options;
  if (backendType !== undefined && backendType !== "phy" && backendType !== "qdisk")
    throw wrong("backendType", backendType, "phy and qdisk");
  return {
    ...optional(options, "dev", text),
    ...(backendType ? { backendType } : {}),
    ...optional(options, "cdrom", flag),
    ...optional(options, "discard", flag),
    ...optional(options, "directIoSafe", flag),
    ...optional(options, "trusted", flag),
    ...optional(options, "queues", count(MAX_QUEUES)),
    ...optional(options, "ringPageOrder", whole(0, BACKEND_OFFERS.maxRingPageOrder)),
    ...optional(options, "format", text),
    ...optional(options, "allowBacking", flag),
  };
}

function optional<K extends string, T>(body: Body, key: K, read: (body: Body, key: string) => T): { [key in K]?: T } {
  return body[key] === undefined ? {} : ({ [key]: read(body, key) } as { [key in K]: T });
}

function text(body: Body, key: string): string {
  const value = body[key];
  if (typeof value !== "string" || value === "") throw wrong(key, value, "text");
  return value;
}

function flag(body: Body, key: string): boolean {
  const value = body[key];
  if (typeof value !== "boolean") throw wrong(key, value, "true and false");
  return value;
}

function count(most: number): (body: Body, key: string) => number {
  return whole(1, most);
}

function whole(least: number, most: number): (body: Body, key: string) => number {
  return (body, key) => {
    const value = body[key];
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      throw wrong(key, value, `a whole number ${least}..${most}`);
    return value as number;
  };
}

function object(body: Body, key: string): Body {
  const value = body[key];
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(key, value, "an object");
  return value as Body;
}

function wrong(key: string, found: unknown, allowed: string): DiskError {
  return new DiskError(
    "PROTOCOL",
    `Cannot read the request: ${key} is ${JSON.stringify(found)}, allowed is ${allowed}`,
  );
}
