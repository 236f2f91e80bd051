/** What libxl writes into a new domain's home and the two directories of a new vbd, from their configuration. Everything else is the drivers' to write. */

import type { VbdId } from "./blkback.js";
import { backendPath, frontendPath, WISH_KEYS, XENBUS_STATE } from "./blkif/keys.js";
import type { DomainFacts, VbdSpec } from "./toolstack.js";

export type StoreKeys = Readonly<Record<string, string | number>>;

/** Below the domain's home. */
export function domainKeys(domid: number, name: string, { memory, maxmem, vcpus = 1, uuid }: DomainFacts): StoreKeys {
  const cpus = Array.from({ length: vcpus }, (_, cpu) => [`cpu/${cpu}/availability`, "online"]);
  return {
    name,
    domid,
    ...(uuid ? { vm: `/vm/${uuid}` } : {}),
    "memory/target": memory,
    "memory/static-max": maxmem,
    ...Object.fromEntries(cpus),
  };
}

/** Backend's directory, and the frozen copy below /libxl. A `phy` disk names its hotplug script, a `qdisk` has none. */
export function backendKeys(id: VbdId, spec: VbdSpec): StoreKeys {
  const { dev, backendType = "phy", cdrom, discard = spec.writable, directIoSafe } = spec.options ?? {};
  return {
    frontend: frontendPath(id.domid, id.devid),
    ...(backendType === "qdisk" ? { params: `aio:${spec.target}` } : { params: spec.target, script: "xvdkit" }),
    "frontend-id": id.domid,
    online: 1,
    removable: cdrom ? 1 : 0,
    bootable: 1,
    dev: dev ?? spec.vdev.name,
    type: backendType,
    mode: spec.writable ? "w" : "r",
    "device-type": cdrom ? "cdrom" : "disk",
    ...(directIoSafe ? { "direct-io-safe": 1 } : {}),
    "discard-enable": discard ? 1 : 0,
    specification: "xen",
    state: XENBUS_STATE.Initialising,
  };
}

/** Frontend's directory. `protocol` is written beforehand for drivers too old to do it. */
export function frontendKeys(id: VbdId, spec: VbdSpec): StoreKeys {
  const { cdrom, trusted = true, queues, ringPageOrder } = spec.options ?? {};
  return {
    backend: backendPath(0, id.domid, id.devid),
    "backend-id": 0,
    "virtual-device": id.devid,
    "device-type": cdrom ? "cdrom" : "disk",
    trusted: trusted ? 1 : 0,
    protocol: "x86_64-abi",
    ...(queues === undefined ? {} : { [WISH_KEYS.queues]: queues }),
    ...(ringPageOrder === undefined ? {} : { [WISH_KEYS.ringPageOrder]: ringPageOrder }),
    state: XENBUS_STATE.Initialising,
  };
}
