/** A backend that dies after any write: the next one does what has no answer, all of it, once, with the words that were asked. */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { ABIS } from "#src/xen/blkif/layout.js";
import { RingWords } from "#src/xen/platform/ring-words.js";
import { BackRing, FrontRing, ringSize } from "#src/xen/ring.js";
import { RingJournal, ringJournalBytes } from "#src/xen/ring-journal.js";

interface Memory {
  readonly ring: SharedArrayBuffer;
  readonly journal: SharedArrayBuffer;
}

function backend({ ring, journal }: Memory, stride: number): BackRing {
  return new BackRing(
    new RingWords([new Uint8Array(ring)]),
    stride,
    new RingJournal(journal, ringSize(ring.byteLength, stride), stride),
  );
}

function copyOf(shared: SharedArrayBuffer): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(shared.byteLength);
  new Uint8Array(copy).set(new Uint8Array(shared));
  return copy;
}

/** What a request with that number asks: each word of its slot tells it. */
function slotOf(number: number, words: number): Int32Array {
  return Int32Array.from({ length: words }, (_, i) => number * 100 + i);
}

/** The numbers of all requests that a backend finds to do, in its order. */
function todo(back: BackRing, words: number): number[] {
  const slot = back.newSlot();
  return Array.from({ length: back.available() }, () => {
    back.take(slot);
    const number = Math.round(slot[0]! / 100);
    expect(slot).toEqual(slotOf(number, words));
    return number;
  });
}

const step = fc.record({
  kind: fc.constantFrom("ask", "take", "answer", "publish", "read", "die"),
  count: fc.integer({ min: 1, max: 12 }),
  pick: fc.nat(),
});

test.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))("%s", (_name, abi) => {
  const words = abi.stride / 4;
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
      const memory = {
        ring: new SharedArrayBuffer(4096),
        journal: new SharedArrayBuffer(ringJournalBytes(ringSize(4096, abi.stride), abi.stride)),
      };
      const front = new FrontRing(new RingWords([new Uint8Array(memory.ring)]), abi.stride);
      let back = backend(memory, abi.stride);
      const slot = back.newSlot();
      let asked = 0;
      let inFlight: { number: number; entry: number }[] = [];
      const seen: number[] = [];
      const readAnswers = () =>
        front.takeResponses((response) => {
          seen.push(response[0]!);
        });
      const deaths: Memory[] = [];
      const real = Atomics.store;
      const spy = vi.spyOn(Atomics, "store").mockImplementation(((array: Int32Array, at: number, value: number) => {
        deaths.push({ ring: copyOf(memory.ring), journal: copyOf(memory.journal) });
        return real(array, at, value);
      }) as typeof Atomics.store);
      try {
        for (const { kind, count, pick } of steps) {
          deaths.length = 0;
          const [answered, before] = [seen.length, asked];
          if (kind === "ask") {
            for (let i = 0; i < count && front.free > 0; i++) front.put(slotOf(asked++, words));
            front.push();
          } else if (kind === "take") {
            for (let i = Math.min(count, back.available()); i > 0; i--) {
              const entry = back.take(slot);
              inFlight.push({ number: Math.round(slot[0]! / 100), entry });
            }
          } else if (kind === "answer") {
            for (let i = Math.min(count, inFlight.length); i > 0; i--) {
              const [{ number, entry }] = inFlight.splice(pick % inFlight.length, 1) as [(typeof inFlight)[number]];
              back.respond(number, 0, 0, entry);
            }
          } else if (kind === "publish") back.push();
          else if (kind === "read") readAnswers();
          else {
            back = backend(memory, abi.stride);
            inFlight = [];
          }
          // Whatever the moment, what was published and what the next backend finds are all that was asked, once.
          for (const death of deaths.splice(0)) {
            const next = backend(death, abi.stride);
            const found = todo(next, words);
            const published: number[] = [];
            const view = new Int32Array(death.ring);
            const rspProd = view[2]! >>> 0;
            for (let i = answered; i < rspProd; i++)
              published.push(view[16 + (i & (ringSize(4096, abi.stride) - 1)) * words]!);
            const all = [...seen.slice(0, answered), ...published, ...found].sort((a, b) => a - b);
            const visible = view[0]! >>> 0 >= asked ? asked : Math.max(before, view[0]! >>> 0);
            expect(all).toEqual(Array.from({ length: visible }, (_, i) => i));
          }
        }
      } finally {
        spy.mockRestore();
      }
      // To the end: everything is answered once.
      for (let rounds = 0; rounds < 10; rounds++) {
        for (let i = back.available(); i > 0; i--) {
          const entry = back.take(slot);
          inFlight.push({ number: Math.round(slot[0]! / 100), entry });
        }
        for (const { number, entry } of inFlight.splice(0).reverse()) back.respond(number, 0, 0, entry);
        back.push();
        readAnswers();
      }
      expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: asked }, (_, i) => i));
    }),
    { numRuns: 25 },
  );
});

test("a journal that does not fit the ring is not believed", () => {
  const abi = ABIS["x86_64-abi"]!;
  const memory = {
    ring: new SharedArrayBuffer(4096),
    journal: new SharedArrayBuffer(ringJournalBytes(32, abi.stride)),
  };
  const front = new FrontRing(new RingWords([new Uint8Array(memory.ring)]), abi.stride);
  front.put(slotOf(0, 28));
  front.put(slotOf(1, 28));
  front.push();
  const back = backend(memory, abi.stride);
  back.take(back.newSlot());
  // Another frontend began a ring in the same pages.
  const anew = new FrontRing(new RingWords([new Uint8Array(memory.ring)]), abi.stride);
  anew.put(slotOf(7, 28));
  anew.push();
  new Int32Array(memory.ring)[2] = 5; // and a guest may write anything there
  new Int32Array(memory.ring)[0] = 6;
  expect(backend(memory, abi.stride).available()).toBe(1);
});
