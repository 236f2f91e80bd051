/** A frontend that is lied to disables its device and never corrupts what its user sees (Linux blkfront, XSA-376, XSA-396). */
import { expect, test } from "vitest";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { twoDomains } from "./ring-pair.js";

/** A backend that maps the ring and writes what it is told. */
function rawBackend() {
  const { dom0, guest } = twoDomains();
  const queue = new BlkfrontQueue(guest, 0);
  queue.negotiate({ maxSegments: 11, persistent: false, flush: 3 });
  const ring = dom0.foreign.page(dom0.foreign.map(1, queue.ringRefs[0]!, true));
  const port = dom0.events.bindInterdomain(1, queue.eventChannel);
  const view = new DataView(ring.buffer, ring.byteOffset, 4096);
  let produced = 0;
  return {
    queue,
    dom0,
    view,
    request: (index: number) => ({
      id: view.getUint32(64 + index * 112 + 8, true),
      gref: view.getUint32(64 + index * 112 + 24, true),
    }),
    respond(id: number, op: number, status: number, idHigh = 0) {
      const at = 64 + (produced & 31) * 112;
      view.setUint32(at, id, true);
      view.setUint32(at + 4, idHigh, true);
      view.setUint8(at + 8, op);
      view.setInt16(at + 10, status, true);
      view.setUint32(8, ++produced, true);
    },
    tell() {
      dom0.events.notify(port);
      guest.vcpu.dispatch();
    },
  };
}

async function oneRead(lie: (backend: ReturnType<typeof rawBackend>, id: number, gref: number) => void) {
  const backend = rawBackend();
  const into = new Uint8Array(4096).fill(0x11);
  const reading = backend.queue.read(0, into);
  await null; // the push
  const { id, gref } = backend.request(0);
  lie(backend, id, gref);
  backend.tell();
  return { backend, reading, into };
}

test("an honest answer", async () => {
  const { reading } = await oneRead((backend, id) => backend.respond(id, 0, 0));
  await reading;
});

test.each<[string, Parameters<typeof oneRead>[0]]>([
  ["an id that was never used", (backend) => backend.respond(31, 0, 0)],
  ["an id beyond the ring", (backend) => backend.respond(1000, 0, 0)],
  ["an id whose high word is set", (backend, id) => backend.respond(id, 0, 0, 1)],
  ["another operation", (backend, id) => backend.respond(id, 1, 0)],
  ["more responses than requests", (backend) => backend.view.setUint32(8, 2, true)],
  ["an index far away", (backend) => backend.view.setUint32(8, 0x8000_0000, true)],
  [
    "an answer while the page is still mapped",
    (backend, id, gref) => {
      backend.dom0.foreign.map(1, gref, true);
      backend.respond(id, 0, 0);
    },
  ],
])("%s disables the device", async (_what, lie) => {
  const { backend, reading, into } = await oneRead(lie);
  await expect(reading).rejects.toMatchObject({ code: "PROTOCOL" });
  expect(into.every((byte) => byte === 0x11)).toBe(true);
  await expect(backend.queue.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "PROTOCOL" });
  expect(backend.queue.inFlight).toBe(0);
});

test("an answer given twice disables the device after the first was taken", async () => {
  const { backend, reading } = await oneRead((raw, id) => {
    raw.respond(id, 0, 0);
  });
  await reading;
  backend.respond(0, 0, 0);
  backend.tell();
  await expect(backend.queue.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "PROTOCOL" });
});

test("a flush or discard that the backend does not know is no error, and flush is not asked for again", async () => {
  const backend = rawBackend();
  const flushing = backend.queue.flush();
  await null;
  backend.respond(backend.request(0).id, 3, -2);
  backend.tell();
  await flushing;
  await backend.queue.flush();
  expect(backend.view.getUint32(0, true)).toBe(1);
  const discarding = backend.queue.discard(0, 4096);
  await null;
  backend.respond(backend.request(1).id, 5, -2);
  backend.tell();
  await discarding;
});

test.each([-1, -3, 1, 32767])("status %i is an error", async (status) => {
  const { reading } = await oneRead((backend, id) => backend.respond(id, 0, status));
  await expect(reading).rejects.toMatchObject({ code: "IO" });
});
