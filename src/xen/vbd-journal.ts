/**
 * What happened to each vbd, and when: the steps of the toolstack, and the states of both ends as the store told them.
 * Bounded whatever a guest writes (XSA-349): one look at a time, the first and the last entries of each vbd, the others counted.
 */
import type { VbdId } from "./blkback.js";
import { backendPath, frontendPath, stateName, XENBUS_STATE, type XenbusState } from "./blkif/keys.js";
import { Coalescer, readState } from "./xenbus.js";
import type { XenstoreClient } from "./xenstore/client.js";

export interface JournalEntry {
  /** Milliseconds since the vbd was begun. */
  readonly at: number;
  readonly by: "toolstack" | "backend" | "frontend";
  /** What that end's `state` became; null for a step. 0: its directory is gone. */
  readonly state: XenbusState | null;
  /** The state's name, or the step. */
  readonly what: string;
}

export interface Journal {
  readonly entries: readonly JournalEntry[];
  /** Entries between the first `JOURNAL_FIRST` and the rest that were not kept. */
  readonly omitted: number;
}

export const JOURNAL_FIRST = 32;
export const JOURNAL_LAST = 32;

type End = "backend" | "frontend";

interface VbdRecord {
  readonly begun: number;
  readonly states: Record<End, XenbusState>;
  readonly first: JournalEntry[];
  readonly last: JournalEntry[];
  omitted: number;
  readonly unwatch: (() => Promise<void>)[];
}

export class VbdJournal {
  readonly #store: XenstoreClient;
  readonly #now: () => number;
  readonly #records = new Map<string, VbdRecord>();
  readonly #looks: Coalescer;

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(store: XenstoreClient, now: () => number) {
    this.#store = store;
    this.#now = now;
    this.#looks = new Coalescer(
      (key) => this.#look(key),
      () => {}, // a store that is closing has nothing more to tell
    );
  }

  /** Before the vbd's directories are written. What was recorded of an earlier one is forgotten. */
  async begin(id: VbdId): Promise<void> {
    await this.end(id);
    const key = keyOf(id);
    const record: VbdRecord = {
      begun: this.#now(),
      states: { backend: XENBUS_STATE.Unknown, frontend: XENBUS_STATE.Unknown },
      first: [],
      last: [],
      omitted: 0,
      unwatch: [],
    };
    this.#records.set(key, record);
    for (const end of ["backend", "frontend"] as const) {
      const look = `${end}/${key}`;
      record.unwatch.push(
        await this.#store.watch(`${directory(end, id)}/state`, `journal-${look}`, () => this.#looks.schedule(look)),
      );
    }
  }

  /** A step of the toolstack: what it does now, or waits for. */
  step(id: VbdId, what: string): void {
    const record = this.#records.get(keyOf(id));
    if (record) this.#note(record, "toolstack", null, what);
  }

  of(id: VbdId): Journal {
    const record = this.#records.get(keyOf(id));
    if (!record) return { entries: [], omitted: 0 };
    return { entries: [...record.first, ...record.last], omitted: record.omitted };
  }

  async end(id: VbdId): Promise<void> {
    const record = this.#records.get(keyOf(id));
    this.#records.delete(keyOf(id));
    for (const unwatch of record?.unwatch ?? []) await unwatch();
  }

  /** Of all vbds of a domain. */
  async endAll(domid: number): Promise<void> {
    for (const key of [...this.#records.keys()]) {
      const [ofDomain, devid] = key.split("/").map(Number) as [number, number];
      if (ofDomain === domid) await this.end({ domid, devid });
    }
  }

  async #look(look: string): Promise<void> {
    const [end, domid, devid] = look.split("/") as [End, string, string];
    const id = { domid: Number(domid), devid: Number(devid) };
    const record = this.#records.get(keyOf(id));
    if (!record) return;
    const state = await readState(this.#store, directory(end, id));
    if (state === record.states[end]) return;
    record.states[end] = state;
    this.#note(record, end, state, state === XENBUS_STATE.Unknown ? "gone" : stateName(state));
  }

  #note(record: VbdRecord, by: JournalEntry["by"], state: XenbusState | null, what: string): void {
    const entry: JournalEntry = { at: this.#now() - record.begun, by, state, what };
    if (record.first.length < JOURNAL_FIRST) {
      record.first.push(entry);
      return;
    }
    record.last.push(entry);
    if (record.last.length <= JOURNAL_LAST) return;
    record.last.shift();
    record.omitted++;
  }
}

/** One line for each entry: `   +1.2 ms  backend    2 InitWait`. */
export function journalLines({ entries, omitted }: Journal): string[] {
  const lines = entries.map(({ at, by, state, what }) => {
    const time = `+${at.toFixed(1)} ms`.padStart(12);
    return `${time}  ${by.padEnd(9)}  ${state === null ? what : `${state} ${what}`}`;
  });
  if (omitted > 0) lines.splice(JOURNAL_FIRST, 0, `${" ".repeat(14)}... ${omitted} more that were not kept`);
  return lines;
}

function directory(end: End, { domid, devid }: VbdId): string {
  return end === "backend" ? backendPath(0, domid, devid) : frontendPath(domid, devid);
}

function keyOf({ domid, devid }: VbdId): string {
  return `${domid}/${devid}`;
}
