/**
 * The loop of a thread that lives on event channels: dispatch, work, publish, and sleep when there is nothing.
 *
 * Cached I/O settles within a few microtasks, so a batch is started, given a handful of microtask rounds, and answered
 * with one notify. What has not settled by then waits for the disk and is answered whenever it is done.
 * Before it sleeps, a thread looks at its doorbell for some microseconds more: a peer on another core often needs no
 * longer than that, and a wake-up costs several times as much.
 */
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

export interface VcpuLoopOptions {
  /**
   * true: the thread has nothing else to do and blocks while nothing is in flight (a backend).
   * false: the thread's event loop must go on, and it is worth spinning while something is in flight (a guest).
   */
  readonly blocking: boolean;
  /** Looks at the doorbell before sleeping; about 3 ns each. */
  readonly spins?: number;
  /** After this many busy passes the event loop gets a turn: timers, messages, finished pool reads. */
  readonly passesPerTurn?: number;
  /** Handles messages that are waiting, a last time before the thread blocks; true when there were any. Their senders ring the doorbell after posting. */
  readonly takeMessages?: () => boolean;
}

const MICROTASK_ROUNDS = 24;
const PASSES_PER_TURN = 64;
const SLEEP_MS = 1000;

export class VcpuLoop {
  readonly #vcpu: Vcpu;
  readonly #blocking: boolean;
  readonly #spins: number;
  readonly #passesPerTurn: number;
  readonly #takeMessages: () => boolean;
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
    this.#spins = options.spins ?? 20_000;
    this.#passesPerTurn = options.passesPerTurn ?? PASSES_PER_TURN;
    this.#takeMessages = options.takeMessages ?? (() => false);
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
      let done = this.#vcpu.dispatch();
      for (const work of this.#work) done += work.take();
      for (let round = 0; round < MICROTASK_ROUNDS && (done > 0 || this.#inFlight() > 0); round++) await null;
      for (const work of this.#work) work.publish();
      if (done === 0) await this.#idle(ticket);
      else if (passes % this.#passesPerTurn === 0) await eventLoopTurn();
    }
  }

  async #idle(ticket: number): Promise<void> {
    for (const work of this.#work) if (work.finalCheck()) return;
    const inFlight = this.#inFlight() > 0;
    if (inFlight !== this.#blocking && this.#vcpu.spin(ticket, this.#spins)) return;
    await eventLoopTurn();
    if (!this.#blocking || this.#inFlight() > 0 || this.#tasks > 0) return this.#sleep(ticket);
    // Whoever posts a message rings after it: it is seen here, or the doorbell differs from the ticket.
    if (!this.#takeMessages() && !this.#woken) this.#vcpu.wait(ticket, SLEEP_MS);
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
