/** Bytes that no client would send: they end that connection at most, cost nobody else anything, and leave the store sound. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeMessage, joinStrings, MESSAGE_TYPES } from "#src/xen/xenstore/wire.js";
import { guests, RawClient } from "./support.js";

const type = fc.oneof(fc.constantFrom(...Object.values(MESSAGE_TYPES)), fc.nat(30), fc.nat(0xffffffff));
const text = fc.oneof(
  fc.constantFrom(
    "data",
    "data/a",
    "/",
    "/local/domain/1/data/b",
    "/local/domain/",
    "@releaseDomain",
    "@x",
    "",
    "//",
    "n1",
    "b1",
    "T",
    "F",
    "1",
    "0",
    "-1",
    "99999999999999999999",
  ),
  fc.string({ maxLength: 20 }),
  fc.nat(3000).map((length) => `data/${"x".repeat(length)}`),
);
const payload = fc.oneof(
  fc.array(text, { maxLength: 4 }).map((strings) => joinStrings(strings)),
  fc.uint8Array({ maxLength: 200 }),
);
const message = fc
  .record({ type, reqId: fc.nat(0xffffffff), txId: fc.oneof(fc.constant(0), fc.nat(4), fc.nat(0xffffffff)), payload })
  .filter(({ payload }) => payload.length <= 4096)
  .map(encodeMessage);
/** Messages as one stream, some bytes of it changed, cut into chunks. */
const stream = fc.tuple(
  fc.array(message, { maxLength: 30 }),
  fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
  fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 10 }),
);

test.each([0, 1])("mutated streams of domain %i", (domid) => {
  fc.assert(
    fc.property(stream, ([messages, mutations, cuts]) => {
      const { xenstored, dom0, guest2 } = guests({ quotas: { nodes: 30 } });
      const bytes = Buffer.concat(messages);
      for (const [at, value] of mutations) if (bytes.length > 0) bytes[at % bytes.length] = value;
      const hostile = new RawClient(xenstored, domid);
      for (let offset = 0, i = 0; offset < bytes.length; i++) {
        const end = offset + cuts[i % cuts.length]!;
        hostile.connection.receive(bytes.subarray(offset, end));
        offset = end;
      }
      if (hostile.ended && hostile.reason)
        expect(hostile.reason).toMatchObject({ code: expect.stringMatching(/PROTOCOL|NOT_FOUND/) });
      expect(xenstored.store.tree.inconsistencies()).toEqual([]);
      expect(dom0.ended).toBe(false);
      expect(dom0.ask("GET_DOMAIN_PATH", ["0"])).toBe("/local/domain/0");
      if (domid === 0) return;
      expect(xenstored.store.tree.owned(1)).toBeLessThanOrEqual(30);
      expect(guest2.write("data/k", "mine")).toBe("OK");
      hostile.connection.close();
      xenstored.domainDied(1);
      expect(xenstored.store.tree.owned(1)).toBe(0);
      expect(xenstored.store.tree.inconsistencies()).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test("what a guest can make the store keep is bounded, whatever it repeats", () => {
  const { xenstored, guest1, guest2 } = guests();
  for (let i = 0; i < 5000; i++) {
    guest1.write(`data/${i}/${"n".repeat(100)}`, "v".repeat(1500));
    guest1.watch(`data/${i}`, "t".repeat(1000));
    guest1.ask("TRANSACTION_START");
    guest1.received.length = 0;
  }
  expect(xenstored.store.tree.owned(1)).toBeLessThanOrEqual(1000);
  expect([guest1.connection.watches.size, guest1.connection.transactions.size]).toEqual([128, 10]);
  expect(guest2.write("data/k", "")).toBe("OK");
  xenstored.domainDied(1);
  expect([guest1.connection.watches.size, guest1.connection.transactions.size]).toEqual([0, 0]);
});

test("a client that floods while it does not read is cut off at one mebibyte of requests", () => {
  const { guest1, guest2 } = guests();
  guest1.reads = false;
  const request = encodeMessage({ type: MESSAGE_TYPES.WRITE, reqId: 1, txId: 0, payload: joinStrings(["data/k"]) });
  const chunk = Buffer.concat(Array.from({ length: 2000 }, () => request));
  for (let i = 0; i < 30 && !guest1.ended; i++) guest1.connection.receive(chunk);
  expect(guest1.ended).toBe(true);
  expect(guest1.reason).toMatchObject({ code: "PROTOCOL" });
  expect(guest1.received).toHaveLength(1);
  expect(guest2.write("data/k", "")).toBe("OK");
});
