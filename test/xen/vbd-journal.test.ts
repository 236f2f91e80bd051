/** The journal of a vbd: what both ends' states became and when, bounded whatever is written (XSA-349). */
import { expect, test } from "vitest";
import { backendPath, frontendPath } from "#src/xen/blkif/keys.js";
import { JOURNAL_FIRST, JOURNAL_LAST, journalLines, VbdJournal } from "#src/xen/vbd-journal.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { Xenstored } from "#src/xen/xenstore/server.js";
import { localTransport } from "#src/xen/xenstore/transport.js";

const ID = { domid: 1, devid: 51712 };
const FRONTEND = `${frontendPath(1, ID.devid)}/state`;
const BACKEND = `${backendPath(0, 1, ID.devid)}/state`;

function journalOf() {
  const xenstored = new Xenstored();
  const store = new XenstoreClient(localTransport(xenstored, 0));
  let now = 500;
  const journal = new VbdJournal(store, () => now);
  const told = () => journal.of(ID).entries.map(({ at, by, state, what }) => [at, by, state, what]);
  /** Writes, and waits until the journal has looked. */
  async function write(path: string, value: string) {
    await store.write(path, value);
    await quiet();
  }
  return { store, journal, told, write, advance: (ms: number) => (now += ms) };
}

async function quiet() {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("steps and states in their order, with times from the beginning", async () => {
  const { store, journal, told, write, advance } = journalOf();
  await journal.begin(ID);
  journal.step(ID, "writes both directories");
  advance(1.25);
  await write(FRONTEND, "1");
  await write(BACKEND, "1");
  advance(2);
  await write(BACKEND, "2");
  await write(BACKEND, "2"); // the same again is no change
  await write(BACKEND, "nonsense"); // nor is it a state: as gone
  await store.rm(FRONTEND);
  await quiet();
  expect(told()).toEqual([
    [0, "toolstack", null, "writes both directories"],
    [1.25, "frontend", 1, "Initialising"],
    [1.25, "backend", 1, "Initialising"],
    [3.25, "backend", 2, "InitWait"],
    [3.25, "backend", 0, "gone"],
    [3.25, "frontend", 0, "gone"],
  ]);
  expect(journalLines(journal.of(ID)).slice(0, 2)).toEqual([
    "     +0.0 ms  toolstack  writes both directories",
    "     +1.3 ms  frontend   1 Initialising",
  ]);
});

test("a guest that toggles its state fills nothing: the first and the last entries stay, the others are counted", async () => {
  const { store, journal } = journalOf();
  await journal.begin(ID);
  for (let i = 0; i < 3000; i++) await store.write(FRONTEND, String(3 + (i % 2)));
  await store.write(FRONTEND, "6");
  await quiet();
  const { entries, omitted } = journal.of(ID);
  expect(entries).toHaveLength(JOURNAL_FIRST + JOURNAL_LAST);
  expect(omitted).toBeGreaterThan(0);
  expect(entries[0]).toMatchObject({ by: "frontend" });
  expect(entries.at(-1)).toMatchObject({ by: "frontend", state: 6, what: "Closed" });
  expect(journalLines(journal.of(ID))[JOURNAL_FIRST]).toBe(`              ... ${omitted} more that were not kept`);
});

test("what ended is forgotten, is watched no more, and begins anew", async () => {
  const { journal, told, write } = journalOf();
  await journal.begin(ID);
  await write(BACKEND, "1");
  await journal.end(ID);
  await write(BACKEND, "2");
  journal.step(ID, "too late");
  expect(told()).toEqual([]);
  await journal.begin(ID);
  await quiet();
  expect(told()).toEqual([[0, "backend", 2, "InitWait"]]);
  await journal.begin({ domid: 2, devid: 5 });
  journal.step({ domid: 2, devid: 5 }, "another domain's");
  await journal.endAll(1);
  expect(told()).toEqual([]);
  expect(journal.of({ domid: 2, devid: 5 }).entries).toHaveLength(1);
});
