/** Runs FUSE sessions in a thread that has no vcpu loop: takes requests while there are any, and waits to be woken. */

/** What can be run; a `FuseSession` is, and so is all work of a vcpu loop. */
export interface RunnableSession {
  take(): number;
  publish(): void;
  readonly inFlight: number;
  finalCheck(): boolean;
}

/** Where a session runs: this, or the vcpu loop of its thread. */
export interface Runner {
  add(session: RunnableSession): void;
  remove(session: RunnableSession): void;
  wake(): void;
}

/** As in a vcpu loop: cached I/O settles within a few microtasks. */
const MICROTASK_ROUNDS = 24;

export class SessionRunner implements Runner {
  readonly #sessions = new Set<RunnableSession>();
  #running = false;
  #woken = false;

  add(session: RunnableSession): void {
    this.#sessions.add(session);
    this.wake();
  }

  remove(session: RunnableSession): void {
    this.#sessions.delete(session);
  }

  wake(): void {
    this.#woken = true;
    if (!this.#running) void this.#run();
  }

  /** Until nothing comes any more; everybody is armed then, and `wake` begins anew. */
  async #run(): Promise<void> {
    this.#running = true;
    while (this.#woken) {
      this.#woken = false;
      let taken = 0;
      for (const session of this.#sessions) taken += session.take();
      for (let round = 0; round < MICROTASK_ROUNDS && taken > 0; round++) await null;
      if (taken > 0) await new Promise((resolve) => setImmediate(resolve)); // I/O of this thread ends there
      for (const session of this.#sessions) if (taken > 0 || session.finalCheck()) this.#woken = true;
    }
    this.#running = false;
  }
}
