/**
 * xenstored's end of all domains' rings: maps each page by its reserved grant, binds the event channel that INTRODUCE named,
 * and moves bytes between the two streams and the domain's connection. It lives in a `VcpuLoop`, which dispatches the events;
 * nothing here waits, and a domain that is answered at once tells its peer once.
 *
 * A page whose indices cannot be, or a message that is too long, ends that domain's connection: the page says why, and
 * nothing more is read from it until the domain is introduced again.
 */
import { DiskError } from "../../errors.js";
import { GNTTAB_RESERVED_XENSTORE, type MappedRing, type XenPlatform } from "../platform/platform.js";
import type { VcpuLoop, VcpuWork } from "../vcpu-loop.js";
import type { Connection } from "./connection.js";
import { CONNECTION_ERROR, SERVER_FEATURES, XenstoreRing } from "./ring.js";
import type { Xenstored } from "./server.js";
import { xenstoreError } from "./xenstore-error.js";

export interface XenstoreRingsOptions {
  readonly platform: Pick<XenPlatform, "foreign" | "events">;
  readonly loop: Pick<VcpuLoop, "add" | "wake">;
}

const FEATURES = SERVER_FEATURES.reconnection | SERVER_FEATURES.error | SERVER_FEATURES.watchDepth;
/** Reads of one ring before the others have their turn. */
const READS_PER_TURN = 2;

export class XenstoreRings implements VcpuWork {
  readonly inFlight = 0;
  readonly #options: XenstoreRingsOptions;
  /** Of introduced domains, also after their connection has ended. */
  readonly #links = new Map<number, RingLink>();
  /** To be looked at in the next pass. */
  readonly #ready = new Set<RingLink>();
  /** To be notified at its end. */
  readonly #moved = new Set<RingLink>();
  #taking = false;

  constructor(options: XenstoreRingsOptions) {
    this.#options = options;
    options.loop.add(this);
  }

  /** INTRODUCE: serves the domain's ring from now on; again: with empty streams, and nothing left of what was before. Throws EINVAL when page or port is not to be had. */
  connect(xenstored: Xenstored, domid: number, port: number): void {
    const before = this.#links.get(domid);
    this.disconnect(domid);
    const { foreign, events } = this.#options.platform;
    const mapped = foreign.mapRing(domid, [GNTTAB_RESERVED_XENSTORE]);
    if (typeof mapped === "number") throw xenstoreError("EINVAL", `map the xenstore page of domain ${domid}`);
    try {
      const local = events.bindInterdomain(domid, port);
      const link = new RingLink(mapped, {
        events,
        port: local,
        connect: (send, onEnd) => xenstored.connect(domid, send, onEnd),
        reset: (connection) => xenstored.reset(connection),
        onReady: (ready) => this.#schedule(ready),
        onMoved: (moved) => this.#announce(moved),
      });
      this.#links.set(domid, link);
      link.open(before !== undefined);
    } catch (error) {
      mapped.unmap();
      if (!(error instanceof DiskError)) throw error;
      throw xenstoreError("EINVAL", `bind event channel ${port} of domain ${domid}`);
    }
  }

  /** RELEASE: the page is not touched again. Harmless for a domain without a ring. */
  disconnect(domid: number): void {
    this.#links.get(domid)?.close();
    this.#links.delete(domid);
  }

  take(): number {
    const ready = [...this.#ready];
    this.#ready.clear();
    this.#taking = true;
    for (const link of ready) if (link.serve()) this.#ready.add(link);
    this.#taking = false;
    this.publish(); // requests are answered by now: the peers need not wait for the rest of the pass
    return ready.length;
  }

  publish(): void {
    for (const link of this.#moved) link.notify();
    this.#moved.clear();
  }

  /** The loop has slept for a while, or there is nothing to do: what was over its quota may not be any more. */
  finalCheck(): boolean {
    for (const link of this.#links.values()) if (link.mayGoOn) this.#ready.add(link);
    return this.#ready.size > 0;
  }

  #announce(link: RingLink): void {
    this.#moved.add(link);
    if (!this.#taking) this.#options.loop.wake(); // an event of somebody else's doing
  }

  #schedule(link: RingLink): void {
    this.#ready.add(link);
    this.#options.loop.wake();
  }
}

interface LinkOptions {
  readonly events: XenPlatform["events"];
  /** Dom0's own port. */
  readonly port: number;
  connect(send: (message: Uint8Array) => boolean, onEnd: (reason?: DiskError) => void): Connection;
  reset(connection: Connection): void;
  onReady(link: RingLink): void;
  onMoved(link: RingLink): void;
}

/** One domain's ring. */
class RingLink {
  readonly #options: LinkOptions;
  readonly #mapped: MappedRing;
  readonly #ring: XenstoreRing;
  #connection: Connection | undefined;
  /** What is left of the message that is on its way. */
  #rest: Uint8Array | undefined;
  /** The ring's bytes are waiting for a connection that is not accepting. */
  #stalled = false;
  #broken: DiskError | undefined;

  constructor(mapped: MappedRing, options: LinkOptions) {
    this.#options = options;
    this.#mapped = mapped;
    this.#ring = new XenstoreRing(mapped.words, "server");
  }

  open(again: boolean): void {
    if (again) this.#ring.reset();
    this.#ring.setError(CONNECTION_ERROR.none); // of an earlier time
    this.#ring.offer(FEATURES);
    const { events, port, onReady } = this.#options;
    events.listen(port, () => onReady(this));
    this.#connection = this.#options.connect(
      (message) => this.#send(message),
      (reason) => this.#onEnd(reason),
    );
    this.#connection.onAccepting(() => onReady(this));
    onReady(this);
  }

  /** A stalled domain that could be served again. */
  get mayGoOn(): boolean {
    return this.#stalled && this.#connection?.accepting === true;
  }

  /** Moves what can be moved; true when there is more to do after the others' turn. */
  serve(): boolean {
    const connection = this.#connection;
    if (!connection) return false;
    if (this.#ring.reconnecting) this.#reconnect(connection);
    try {
      if (this.#pour() && connection.blocked) connection.resume();
      return this.#read(connection);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#broken = error;
    }
    if (this.#broken) connection.end(this.#broken);
    return false;
  }

  notify(): void {
    if (this.#connection) this.#options.events.notify(this.#options.port);
  }

  close(): void {
    this.#connection?.close();
  }

  #read(connection: Connection): boolean {
    if (this.#stalled) connection.proceed();
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      if (this.#broken) throw this.#broken;
      this.#stalled = !connection.accepting;
      if (this.#stalled || !this.#connection) return false;
      const bytes = this.#ring.read();
      if (!bytes) return false;
      this.#options.onMoved(this);
      connection.receive(bytes);
    }
    return true;
  }

  /** Also called while another domain is being served: a fault of this one must wait for its own turn. */
  #send(message: Uint8Array): boolean {
    this.#rest = message;
    try {
      return this.#pour();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.#broken = error;
      this.#options.onReady(this);
      return false;
    }
  }

  /** True when everything that was to be sent is in the ring. */
  #pour(): boolean {
    if (!this.#rest) return true;
    const written = this.#ring.write(this.#rest);
    if (written > 0) this.#options.onMoved(this);
    this.#rest = written < this.#rest.length ? this.#rest.subarray(written) : undefined;
    return this.#rest === undefined;
  }

  /** The domain asks for an empty ring and a client without a past. */
  #reconnect(connection: Connection): void {
    this.#rest = undefined;
    this.#options.reset(connection);
    this.#ring.reset();
    this.#options.onMoved(this);
  }

  #onEnd(reason: DiskError | undefined): void {
    const { events, port } = this.#options;
    this.#connection = undefined;
    this.#rest = undefined;
    if (reason) {
      this.#ring.setError(this.#errorOf(reason));
      events.notify(port);
    }
    events.close(port);
    this.#mapped.unmap();
  }

  #errorOf(reason: DiskError): number {
    if (reason === this.#broken) return CONNECTION_ERROR.ringIndex;
    return reason.code === "PROTOCOL" ? CONNECTION_ERROR.protocol : CONNECTION_ERROR.communication;
  }
}
