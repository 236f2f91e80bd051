/**
 * Event channels of one vcpu, 2-level ABI (event_channel.h; xen/common/event_channel.c and event_2l.c in behaviour).
 * Every vcpu of a domain is one thread with one doorbell word: an event sets the port's bit and rings it once.
 */
import type { EventChannels, Vcpu } from "../platform.js";
import { type DomainTable, type DomainView, MAX_PORTS, SHARED_INFO, XEN_WORDS } from "./domain-pages.js";
import {
  allocUnbound,
  bindPorts,
  closePort,
  isBoundTo,
  isPending,
  isPort,
  maskPort,
  PEER,
  PORT_STATE,
  peerDomid,
  peerPort,
  peerWord,
  refused,
  row,
  STATE,
  setPending,
  unmaskPort,
  VCPU,
} from "./port-table.js";

export { closeAllPorts, ringDoorbell } from "./port-table.js";

const PENDING_WORD = SHARED_INFO.evtchnPending / 4;
const MASK_WORD = SHARED_INFO.evtchnMask / 4;

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
    return allocUnbound(this.#own, remoteDomid, this.#vcpu);
  }

  bindInterdomain(remoteDomid: number, remotePort: number): number {
    const remote = this.#domains.get(remoteDomid);
    if (!remote?.alive) throw refused("ESRCH", `there is no domain ${remoteDomid}`);
    this.#check(remotePort);
    return bindPorts(this.#own, remote, remotePort, this.#vcpu);
  }

  listen(port: number, handler: () => void): void {
    this.#handlers.set(port, handler);
  }

  notify(port: number): void {
    const at = row(port);
    const { xen, domid } = this.#own;
    const state = isPort(port) ? Atomics.load(xen, at + STATE) : PORT_STATE.closed;
    if (state === PORT_STATE.unbound) return;
    if (state !== PORT_STATE.interdomain) throw refused("EINVAL", `port ${port} is closed`);
    const peer = xen[at + PEER]!;
    const remote = this.#domains.get(peerDomid(peer));
    // The peer may have closed its end a moment ago and use the number for something else.
    if (remote && isBoundTo(remote, peerPort(peer), peerWord(domid, port))) setPending(remote, peerPort(peer));
  }

  close(port: number): void {
    this.#handlers.delete(port);
    if (isPort(port)) closePort(this.#domains, this.#own, port);
  }

  /** Events of the port wait, pending, until `unmask`. The guest's own bit: no hypercall. */
  mask(port: number): void {
    this.#check(port);
    maskPort(this.#own, port);
  }

  /** Delivers what waited (EVTCHNOP_unmask). */
  unmask(port: number): void {
    this.#check(port);
    unmaskPort(this.#own, port);
  }

  /**
   * SCHEDOP_poll: blocks until one of the ports is pending, masked or not, or this vcpu is woken by another event, or time is up.
   * Gives those that are pending and leaves them so.
   */
  poll(ports: readonly number[], timeoutMs: number): number[] {
    for (const port of ports) this.#check(port);
    const { xen } = this.#own;
    const ready = () => ports.filter((port) => isPending(this.#own, port));
    Atomics.or(xen, XEN_WORDS.polling, 1 << this.#vcpu);
    try {
      const ticket = this.ticket();
      if (ready().length === 0) this.wait(ticket, timeoutMs);
      return ready();
    } finally {
      Atomics.and(xen, XEN_WORDS.polling, ~(1 << this.#vcpu));
    }
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
    if (word64 * 64 >= MAX_PORTS) return 0; // the guest wrote that bit itself
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

  #check(port: number): void {
    if (!isPort(port)) throw refused("EINVAL", `port ${port} is no port, allowed 1..${MAX_PORTS - 1}`);
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

interface WaitAsync {
  waitAsync(words: Int32Array, index: number, value: number, timeout?: number): { value: string | Promise<string> };
}

/** Atomics.waitAsync (ES2024; in Node since 16), which the ES2023 typings lack. */
async function waitAsync(words: Int32Array, index: number, value: number, timeoutMs: number): Promise<void> {
  await (Atomics as unknown as WaitAsync).waitAsync(words, index, value, timeoutMs).value;
}
