/** Domains and devices as `list` and `domain list` show them. A guest that does not answer is described by what it said last. */
import { DiskError } from "../errors.js";
import { stateName } from "../xen/blkif/keys.js";
import type { Toolstack } from "../xen/toolstack.js";
import type { AttachedDevice, DomainInfo } from "./api-types.js";
import type { BackendPool } from "./backend-pool.js";
import type { Domain } from "./domains.js";

export class DomainDescriber {
  readonly #toolstack: Toolstack;
  readonly #pool: BackendPool;

  constructor(toolstack: Toolstack, pool: BackendPool) {
    this.#toolstack = toolstack;
    this.#pool = pool;
  }

  async domain(domain: Domain): Promise<DomainInfo> {
    const devices = [...domain.vbds.keys()].map((devid) => this.device(domain, devid).catch(() => undefined));
    return {
      domid: domain.domid,
      name: domain.name,
      state: domain.state,
      devices: (await Promise.all(devices)).filter((device) => device !== undefined),
    };
  }

  async device({ guest, domid, vbds }: Domain, devid: number): Promise<AttachedDevice> {
    const id = { domid, devid };
    const vbd = vbds.get(devid);
    if (!vbd) throw new DiskError("NOT_FOUND", `Cannot describe device ${devid} of ${guest.name}: it is not attached`);
    const [{ frontend, backend }, info, statistics] = await Promise.all([
      this.#toolstack.states(id),
      guest.describe(devid),
      this.#pool.statistics(id),
    ]);
    return {
      domain: guest.name,
      domid: guest.domid,
      vdev: vbd.vdev.name,
      device: `/dev/${vbd.vdev.name}`,
      number: devid,
      disk: vbd.disk,
      size: info?.size ?? this.#pool.facts(id)?.size ?? 0,
      "hidden-bytes": this.#pool.facts(id)?.hiddenBytes ?? 0,
      access: vbd.access,
      state: frontend === backend ? stateName(backend) : `${stateName(frontend)}/${stateName(backend)}`,
      "frontend-state": frontend,
      "backend-state": backend,
      partitions: info?.partitions ?? [],
      socket: info?.socket ?? null,
      connections: info?.connections ?? 0,
      clients: info?.clients ?? [],
      "kernel-device": info?.kernelDevice ?? null,
      ring: this.#pool.rings(id),
      statistics,
      "frontend-rings": info?.rings ?? [],
    };
  }
}
