/** What grant tables and event channels do, written plainly: maps and arrays, one thread, no bits. */
import { GNTST } from "#src/xen/platform/platform.js";

export interface ReferenceEntry {
  readonly to: number;
  readonly frame: number;
  readonly readonly: boolean;
}

export interface ReferenceMapping {
  readonly mapper: number;
  readonly granter: number;
  readonly ref: number;
  readonly frame: number;
  readonly writable: boolean;
}

export type ReferencePort =
  | { readonly state: "unbound"; readonly domid: number }
  | { readonly state: "interdomain"; readonly domid: number; readonly port: number }
  | { readonly state: "virq"; readonly virq: number };

export class ReferenceDomain {
  alive = true;
  readonly entries = new Map<number, ReferenceEntry>();
  readonly ports = new Map<number, ReferencePort>();
  readonly pending = new Set<number>();
  readonly masked = new Set<number>();
  readonly memory: Buffer;
  readonly scratch = Buffer.alloc(4096);

  constructor(memory: number) {
    this.memory = Buffer.alloc(memory);
  }

  get frames(): number {
    return this.memory.length / 4096;
  }

  take(port: ReferencePort): number {
    let number = 1;
    while (this.ports.has(number)) number++;
    this.ports.set(number, port);
    this.pending.delete(number);
    this.masked.delete(number);
    return number;
  }
}

/** A refusal's errno. */
export class Refused extends Error {}

export class ReferenceXen {
  readonly domains = new Map<number, ReferenceDomain>();
  mappings: ReferenceMapping[] = [];

  /** The status of a map; 0 when there is a new mapping. */
  map(mapper: number, granter: number, ref: number, writable: boolean): number {
    const domain = this.domains.get(granter);
    if (!domain?.alive) return GNTST.bad_domain;
    if (ref < 0 || ref >= 512) return GNTST.bad_gntref;
    const entry = domain.entries.get(ref);
    if (!entry || entry.to !== mapper || (writable && entry.readonly)) return GNTST.general_error;
    if (this.pins(granter, ref, writable) >= 128) return GNTST.general_error;
    if (entry.frame >= domain.frames) return GNTST.bad_page;
    this.mappings.push({ mapper, granter, ref, frame: entry.frame, writable });
    return GNTST.okay;
  }

  pins(granter: number, ref: number, writable: boolean): number {
    return this.mappings.filter((each) => each.granter === granter && each.ref === ref && each.writable === writable)
      .length;
  }

  /** Bytes of one end of a copy, or the status that refuses it. */
  end(mapper: number, end: Buffer | { domid: number; ref: number; offset: number }, length: number, writable: boolean) {
    if (Buffer.isBuffer(end)) return end.subarray(0, length);
    const status = this.map(mapper, end.domid, end.ref, writable);
    if (status !== GNTST.okay) return status;
    const { frame } = this.mappings.pop()!;
    const start = frame * 4096 + end.offset;
    return this.domains.get(end.domid)!.memory.subarray(start, start + length);
  }

  bind(own: number, remote: number, remotePort: number): number {
    const domain = this.domains.get(remote);
    if (!domain?.alive) throw new Refused("ESRCH");
    const there = domain.ports.get(remotePort);
    if (there?.state !== "unbound" || there.domid !== own) throw new Refused("EINVAL");
    const port = this.domains.get(own)!.take({ state: "interdomain", domid: remote, port: remotePort });
    domain.ports.set(remotePort, { state: "interdomain", domid: own, port });
    this.domains.get(own)!.pending.add(port);
    return port;
  }

  send(own: number, port: number): void {
    const here = this.domains.get(own)!.ports.get(port);
    if (!here || here.state === "virq") throw new Refused("EINVAL");
    if (here.state === "interdomain") this.domains.get(here.domid)!.pending.add(here.port);
  }

  close(own: number, port: number): void {
    const domain = this.domains.get(own)!;
    const here = domain.ports.get(port);
    domain.ports.delete(port);
    domain.pending.delete(port);
    if (here?.state !== "interdomain") return;
    this.domains.get(here.domid)!.ports.set(here.port, { state: "unbound", domid: own });
  }

  /** The ports whose handlers run, ascending. */
  dispatch(own: number): number[] {
    const { pending, masked } = this.domains.get(own)!;
    const ready = [...pending].filter((port) => !masked.has(port)).sort((a, b) => a - b);
    for (const port of ready) pending.delete(port);
    return ready;
  }

  destroy(own: number): void {
    const domain = this.domains.get(own)!;
    domain.alive = false;
    this.mappings = this.mappings.filter(({ mapper }) => mapper !== own);
    for (const port of [...domain.ports.keys()]) this.close(own, port);
  }
}
