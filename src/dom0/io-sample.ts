/** The counters of all devices at one time, for `xvd top` and /metrics. No guest is asked: one that does not answer delays nobody. */
import { XENBUS_STATE } from "../xen/blkif/keys.js";
import type { Toolstack } from "../xen/toolstack.js";
import type { DeviceIo, IoSample } from "./api-types.js";
import type { BackendPool } from "./backend-pool.js";
import type { AttachedVbd, Domain, Domains } from "./domains.js";

export interface IoSamplerOptions {
  readonly domains: Domains;
  readonly toolstack: Toolstack;
  readonly pool: BackendPool;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

export class IoSampler {
  readonly #options: IoSamplerOptions;

  constructor(options: IoSamplerOptions) {
    this.#options = options;
  }

  async sample(): Promise<IoSample> {
    const { domains, now } = this.#options;
    const all = domains.all();
    const time = now();
    const devices = all.flatMap((domain) => [...domain.vbds.values()].map((vbd) => this.#device(domain, vbd)));
    return {
      time,
      domains: [
        ...all.map(({ domid, name, state }) => ({ domid, name, state })),
        ...domains.dying().map(({ domid, name }) => ({ domid, name, state: "dying" as const })),
      ],
      devices: await Promise.all(devices),
    };
  }

  async #device({ domid, name }: Domain, { vdev, disk }: AttachedVbd): Promise<DeviceIo> {
    const { toolstack, pool } = this.#options;
    const id = { domid, devid: vdev.number };
    const [states, statistics, latency] = await Promise.all([
      toolstack.states(id),
      pool.statistics(id),
      pool.latency(id),
    ]);
    return {
      domain: name,
      domid,
      vdev: vdev.name,
      number: vdev.number,
      disk,
      size: pool.facts(id)?.size ?? 0,
      connected: states.frontend === XENBUS_STATE.Connected && states.backend === XENBUS_STATE.Connected,
      statistics,
      latency: statistics && latency,
    };
  }
}
