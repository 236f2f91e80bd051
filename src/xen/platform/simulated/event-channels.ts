/**
 * Event channels, 2-level ABI, as shared words (event_channel.h; xen/common/event_channel.c and event_2l.c in behaviour).
 * Pending and mask bits lie in the guest-visible shared_info; the port table and the doorbells are the hypervisor's own.
 * Every vcpu of a domain is one thread with one doorbell word: an event sets the port's bit and rings it once.
 */
import { DiskError } from "../../../errors.js";
import type { EventChannels, Vcpu } from "../platform.js";
import { type DomainTable, type DomainView, MAX_PORTS, SHARED_INFO, XEN_WORDS } from "./domain-pages.js";

/** EVTCHNSTAT_* of event_channel.h. */
const CLOSED = 0;
const UNBOUND = 1;
const INTERDOMAIN = 2;

/** Words of one row of the port table. */
const STATE = 0;
const REMOTE_DOMID = 1;
const REMOTE_PORT = 2;
const VCPU = 3;

const PENDING_WORD = SHARED_INFO.evtchnPending / 4;
const MASK_WORD = SHARED_INFO.evtchnMask / 4;

function row(port: number): number {
  return XEN_WORDS.ports + port * 4;
}

/** The event channels of one vcpu of one domain, used from that vcpu's thread only. */
export class SimulatedEvents implements EventChannels, Vcpu {
  readonly #domains: DomainTable;
  readonly #own: DomainView;
  readonly #vcpu: number;
  readonly #doorbell: number;
  readonly #handlers = new Map<number, () => void>();

  constructor(domains: DomainTable, own: DomainView, vcpu: number) {
    this.#domains = domains;
    this.#own = own;
    this.#vcpu = vcpu;
    this.#doorbell = XEN_WORDS.doorbells + vcpu;
  }

  allocUnbound(remoteDomid: number): number {
    return this.#own.locked(() => this.#takePort(UNBOUND, remoteDomid, 0));
  }

  bindInterdomain(remoteDomid: number, remotePort: number): number {
    const remote = this.#domains.get(remoteDomid);
    if (!remote?.alive) throw refused(`there is no domain ${remoteDomid}`);
    if (!isPort(remotePort)) throw refused(`port ${remotePort} is no port, allowed 1..${MAX_PORTS - 1}`);
    const at = row(remotePort);
    const port = remote.locked(() => {
      const unbound =
        Atomics.load(remote.xen, at + STATE) === UNBOUND && remote.xen[at + REMOTE_DOMID] === this.#own.domid;
      if (!unbound)
        throw refused(`port ${remotePort} of domain ${remoteDomid} is not unbound for domain ${this.#own.domid}`);
      const local =
        remote === this.#own
          ? this.#takePort(INTERDOMAIN, remoteDomid, remotePort)
          : this.#own.locked(() => this.#takePort(INTERDOMAIN, remoteDomid, remotePort));
      remote.xen[at + REMOTE_PORT] = local;
      Atomics.store(remote.xen, at + STATE, INTERDOMAIN);
      return local;
    });
    setPending(this.#own, port); // the peer may have sent before we were bound
    return port;
  }

  listen(port: number, handler: () => void): void {
    this.#handlers.set(port, handler);
  }

  notify(port: number): void {
    const at = row(port);
    const state = isPort(port) ? Atomics.load(this.#own.xen, at + STATE) : CLOSED;
    if (state === CLOSED) throw refused(`port ${port} is closed`);
    if (state !== INTERDOMAIN) return;
    const remote = this.#domains.get(this.#own.xen[at + REMOTE_DOMID]!);
    if (remote) setPending(remote, this.#own.xen[at + REMOTE_PORT]!);
  }

  close(port: number): void {
    this.#handlers.delete(port);
    if (isPort(port)) closePort(this.#domains, this.#own, port);
  }

  dispatch(): number {
    const { info, infoBytes } = this.#own;
    const vcpuInfo = this.#vcpu * SHARED_INFO.vcpuInfoSize;
    if (Atomics.exchange(infoBytes, vcpuInfo + SHARED_INFO.upcallPending, 0) === 0) return 0;
    const selector = (vcpuInfo + SHARED_INFO.pendingSel) / 4;
    let count = 0;
    for (let half = 0; half < 2; half++) {
      for (let selected = Atomics.exchange(info, selector + half, 0); selected !== 0; selected &= selected - 1)
        count += this.#dispatchWord(half * 32 + lowestBit(selected));
    }
    return count;
  }

  ticket(): number {
    return Atomics.load(this.#own.xen, this.#doorbell);
  }

  spin(ticket: number, spins: number): boolean {
    for (let i = 0; i < spins; i++) if (Atomics.load(this.#own.xen, this.#doorbell) !== ticket) return true;
    return false;
  }

  wait(ticket: number, timeoutMs: number): void {
    Atomics.wait(this.#own.xen, this.#doorbell, ticket, timeoutMs);
  }

  async waitAsync(ticket: number, timeoutMs: number): Promise<void> {
    await waitAsync(this.#own.xen, this.#doorbell, ticket, timeoutMs);
  }

  /** Ports of one 64-bit word of evtchn_pending, which is two 32-bit words here. */
  #dispatchWord(word64: number): number {
    const { info } = this.#own;
    let count = 0;
    for (let word = word64 * 2; word < word64 * 2 + 2; word++) {
      const ready = Atomics.load(info, PENDING_WORD + word) & ~Atomics.load(info, MASK_WORD + word);
      for (let left = ready; left !== 0; left &= left - 1) {
        const position = lowestBit(left);
        const port = word * 32 + position;
        if (this.#own.xen[row(port) + VCPU] !== this.#vcpu) continue; // another thread's; its own doorbell rang
        Atomics.and(info, PENDING_WORD + word, ~(1 << position));
        this.#handlers.get(port)?.();
        count++;
      }
    }
    return count;
  }

  /** Call with the domain's lock held. */
  #takePort(state: number, remoteDomid: number, remotePort: number): number {
    const { xen, info, domid } = this.#own;
    for (let port = 1; port < MAX_PORTS; port++) {
      const at = row(port);
      if (Atomics.load(xen, at + STATE) !== CLOSED) continue;
      // All of the row, and clean pending and mask bits, before the state makes the port visible.
      xen[at + REMOTE_DOMID] = remoteDomid;
      xen[at + REMOTE_PORT] = remotePort;
      xen[at + VCPU] = this.#vcpu;
      Atomics.and(info, PENDING_WORD + (port >> 5), ~(1 << (port & 31)));
      Atomics.and(info, MASK_WORD + (port >> 5), ~(1 << (port & 31)));
      Atomics.store(xen, at + STATE, state);
      return port;
    }
    throw new DiskError(
      "NO_SPACE",
      `Cannot allocate an event channel: domain ${domid} has all ${MAX_PORTS - 1} ports in use`,
    );
  }
}

/** Closes every port of a dying domain; its peers' ends return to unbound. */
export function closeAllPorts(domains: DomainTable, domain: DomainView): void {
  for (let port = 1; port < MAX_PORTS; port++) closePort(domains, domain, port);
}

/** Rings a vcpu without an event, so that its thread looks at its messages. */
export function ringDoorbell(domain: DomainView, vcpu: number): void {
  Atomics.add(domain.xen, XEN_WORDS.doorbells + vcpu, 1);
  Atomics.notify(domain.xen, XEN_WORDS.doorbells + vcpu);
}

function closePort(domains: DomainTable, own: DomainView, port: number): void {
  const at = row(port);
  const peer = own.locked(() => {
    const state = Atomics.exchange(own.xen, at + STATE, CLOSED);
    return state === INTERDOMAIN
      ? { domain: domains.get(own.xen[at + REMOTE_DOMID]!), port: own.xen[at + REMOTE_PORT]! }
      : undefined;
  });
  if (!peer?.domain) return;
  const remote = peer.domain;
  const remoteAt = row(peer.port);
  remote.locked(() => {
    const stillOurs = remote.xen[remoteAt + REMOTE_DOMID] === own.domid && remote.xen[remoteAt + REMOTE_PORT] === port;
    if (stillOurs && Atomics.load(remote.xen, remoteAt + STATE) === INTERDOMAIN)
      Atomics.store(remote.xen, remoteAt + STATE, UNBOUND);
  });
}

/** Test-and-set pending; unless masked, test-and-set the selector; then the upcall flag and the doorbell. */
function setPending(domain: DomainView, port: number): void {
  const { info, infoBytes, xen } = domain;
  const bit = 1 << (port & 31);
  if (Atomics.or(info, PENDING_WORD + (port >> 5), bit) & bit) return;
  if (Atomics.load(info, MASK_WORD + (port >> 5)) & bit) return;
  const vcpu = xen[row(port) + VCPU]!;
  const vcpuInfo = vcpu * SHARED_INFO.vcpuInfoSize;
  const word64 = port >> 6;
  Atomics.or(info, (vcpuInfo + SHARED_INFO.pendingSel) / 4 + (word64 >> 5), 1 << (word64 & 31));
  if (Atomics.exchange(infoBytes, vcpuInfo + SHARED_INFO.upcallPending, 1) === 0) ringDoorbell(domain, vcpu);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port < MAX_PORTS;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function refused(why: string): DiskError {
  return new DiskError("PROTOCOL", `Cannot use the event channel: ${why}`);
}

interface WaitAsync {
  waitAsync(words: Int32Array, index: number, value: number, timeout?: number): { value: string | Promise<string> };
}

/** Atomics.waitAsync (ES2024; in Node since 16), which the ES2023 typings lack. */
async function waitAsync(words: Int32Array, index: number, value: number, timeoutMs: number): Promise<void> {
  await (Atomics as unknown as WaitAsync).waitAsync(words, index, value, timeoutMs).value;
}
