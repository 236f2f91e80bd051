/**
 * The loop of a thread that lives on event channels: dispatch, work, publish, and sleep when there is nothing.
 *
 * Cached I/O settles within a few microtasks, so a batch is started, given a handful of microtask rounds, and answered
 * with one notify. What has not settled by then waits for the disk and is answered whenever it is done.
 * Before it sleeps, a thread looks at its doorbell for some microseconds more: a peer on another core often needs no
 * longer than that, and a wake-up costs several times as much.
 */
import { libc } from "../os/libc.js";
import type { Vcpu } from "./platform/platform.js";

/** A ring, as its thread's loop sees it. None of these wait. */
export interface VcpuWork {
  /** Takes what the peer sent; returns how many things were begun or ended. */
  take(): number;
  /** Makes results visible to the peer, with at most one notify. */
  publish(): void;
  /** Things begun and not ended. */
  readonly inFlight: number;
  /** Asks the peer to notify, and looks a last time: true when something came meanwhile. */
  finalCheck(): boolean;
}

/** Work that others do for this thread and whose results can be looked up without the event loop. */
export interface Helpers {
  /** Hands some of the results there are to whoever waits for them; returns how many. */
  takeResults(): number;
  readonly hasResults: boolean;
  readonly underWay: number;
  /** Blocks until there are results, or for `milliseconds`. */
  wait(milliseconds: number): void;
}

export interface VcpuLoopOptions {
  /**
   * true: the thread has nothing else to do and blocks while nothing is in flight (a backend).
   * false: the thread's event loop must go on, and it is worth spinning while something is in flight (a guest).
   */
  readonly blocking: boolean;
  /** Looks at the doorbell before sleeping, at most; about 7 ns each. 0: the thread has other loops, and never waits for one. */
  readonly spins?: number;
  /** After this many busy passes the event loop gets a turn: timers, messages, finished pool reads. */
  readonly passesPerTurn?: number;
  /** Handles messages that are waiting, a last time before the thread blocks; true when there were any. Their senders ring the doorbell after posting. */
  readonly takeMessages?: () => boolean;
  readonly helpers?: Helpers;
}

const NO_HELPERS: Helpers = { takeResults: () => 0, hasResults: false, underWay: 0, wait: () => {} };
/** Looks at the doorbell between two looks at anything else. */
const LOOKS = 64;
/** Looks that cost less than asking whether another thread needs this core. */
const FREE_LOOKS = 512;
const FEWEST_LOOKS = 256;
/** A yield that takes longer went to another thread: where threads are more than cores, looking out keeps others from working. */
const TAKEN_MS = 0.25;
/** As long as a disk takes for a queue of requests: whoever sleeps meanwhile starts the next ones that much later. */
const MOST_LOOKS = 60_000;
/** A peer that takes no longer is worth looking for. */
const SOON_MS = 0.4;
const MICROTASK_ROUNDS = 24;
const PASSES_PER_TURN = 64;
const SLEEP_MS = 1000;
/** A guest's event loop stands still for no longer than this while it waits for its disk. */
const NAP_MS = 1;

export class VcpuLoop {
  readonly #vcpu: Vcpu;
  readonly #blocking: boolean;
  readonly #mostLooks: number;
  #looks: number;
  readonly #passesPerTurn: number;
  readonly #takeMessages: () => boolean;
  readonly #helpers: Helpers;
  readonly #yield = libc()?.yieldCore ?? (() => {});
  readonly #work = new Set<VcpuWork>();
  #stopped = false;
  #tasks = 0;
  /** Something ended since the present pass began, perhaps before anybody slept: there may be results to publish. */
  #woken = false;
  #endSleep: () => void = () => {};
  #sleeping: { ticket: number; promise: Promise<void> } | undefined;

  constructor(vcpu: Vcpu, options: VcpuLoopOptions) {
    this.#vcpu = vcpu;
    this.#blocking = options.blocking;
    this.#mostLooks = options.spins ?? MOST_LOOKS;
    this.#looks = this.#mostLooks;
    this.#passesPerTurn = options.passesPerTurn ?? PASSES_PER_TURN;
    this.#takeMessages = options.takeMessages ?? (() => false);
    this.#helpers = options.helpers ?? NO_HELPERS;
  }

  add(work: VcpuWork): void {
    this.#work.add(work);
    this.wake();
  }

  remove(work: VcpuWork): void {
    this.#work.delete(work);
  }

  /** Runs `task` without the thread ever blocking meanwhile: the task needs the event loop. */
  async during<T>(task: () => T | Promise<T>): Promise<T> {
    this.#tasks++;
    try {
      return await task();
    } finally {
      this.#tasks--;
      this.wake();
    }
  }

  /** Ends a sleep that is waiting for the event loop: something in flight has ended. */
  wake(): void {
    this.#woken = true;
    this.#endSleep();
  }

  stop(): void {
    this.#stopped = true;
    this.wake();
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    for (let passes = 1; !this.#stopped; passes++) {
      const ticket = this.#vcpu.ticket();
      this.#woken = false;
      let done = this.#vcpu.dispatch() + this.#helpers.takeResults();
      for (const work of this.#work) done += work.take();
      // What a backend began may end; in a guest, users of what ended may also begin something new.
      const begun = done > 0 && !this.#blocking;
      for (let round = 0; round < MICROTASK_ROUNDS && (begun || this.#inFlight() > 0); round++) await null;
      for (const work of this.#work) work.publish();
      if (done === 0) await this.#idle(ticket);
      else if (passes % this.#passesPerTurn === 0) await eventLoopTurn();
    }
  }

  async #idle(ticket: number): Promise<void> {
    for (const work of this.#work) if (work.finalCheck()) return;
    const expects = this.#helpers.underWay > 0 || this.#inFlight() > 0 !== this.#blocking;
    if (expects && this.#mostLooks > 0 && (this.#lookOut(ticket) || (!this.#blocking && this.#nap(ticket, NAP_MS))))
      return;
    await eventLoopTurn();
    if (!this.#blocking || this.#inFlight() > 0 || this.#tasks > 0) return this.#sleep(ticket);
    // Whoever posts a message rings after it: it is seen here, or the doorbell differs from the ticket.
    if (!this.#takeMessages() && !this.#woken) this.#vcpu.wait(ticket, SLEEP_MS);
  }

  /**
   * Whether a peer answers soon. It is looked for, then waited for: one that runs elsewhere is seen at once, one that needs
   * this core gets it. The more often the first was in vain, the shorter it is (as KVM polls before it halts a vcpu).
   */
  #lookOut(ticket: number): boolean {
    const soon = this.#spin(ticket) || this.#nap(ticket, SOON_MS);
    this.#looks = soon ? Math.min(this.#looks * 2, this.#mostLooks) : Math.max(this.#looks / 2, FEWEST_LOOKS);
    return soon;
  }

  #spin(ticket: number): boolean {
    for (let looks = 0; looks < this.#looks; looks += LOOKS) {
      if (this.#vcpu.spin(ticket, LOOKS) || this.#helpers.hasResults) return true;
      if (looks >= FREE_LOOKS && this.#othersRan()) {
        this.#looks = FEWEST_LOOKS;
        return false;
      }
    }
    return false;
  }

  /** Lets others have this core; true when somebody took it, who may be the one that this thread is looking for. */
  #othersRan(): boolean {
    const begin = performance.now();
    this.#yield();
    return performance.now() - begin > TAKEN_MS;
  }

  /** Blocks the thread for a moment; true when the doorbell rang or the helpers are done. */
  #nap(ticket: number, milliseconds: number): boolean {
    if (this.#helpers.underWay > 0) this.#helpers.wait(milliseconds);
    else this.#vcpu.wait(ticket, milliseconds);
    return this.#helpers.hasResults || this.#vcpu.ticket() !== ticket;
  }

  /** Sleeps without blocking until the doorbell rings or `wake` is called. */
  async #sleep(ticket: number): Promise<void> {
    if (this.#woken || this.#vcpu.ticket() !== ticket) return;
    // One waiter per ticket: an abandoned waiter would stay until its timeout, and there may be thousands of wakes before that.
    if (this.#sleeping?.ticket !== ticket) {
      const sleeping = { ticket, promise: this.#vcpu.waitAsync(ticket, SLEEP_MS) };
      this.#sleeping = sleeping;
      sleeping.promise.then(() => {
        if (this.#sleeping === sleeping) this.#sleeping = undefined;
      });
    }
    const woken = new Promise<void>((resolve) => {
      this.#endSleep = resolve;
    });
    await Promise.race([woken, this.#sleeping.promise]);
    this.#endSleep = () => {};
  }

  #inFlight(): number {
    let count = 0;
    for (const work of this.#work) count += work.inFlight;
    return count;
  }
}

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
