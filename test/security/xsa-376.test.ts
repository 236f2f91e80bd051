/**
 * XSA-376: frontends trusted what their backend answered. Here every lie disables the device, changes no buffer and
 * gives no page away. XSA-396 (CVE-2022-23036 and others): a page may be used again only when its grant was taken back.
 */
import { describe, expect, test } from "vitest";
import { BlkfrontQueue } from "#src/xen/blkfront-queue.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import type { MappedRing } from "#src/xen/platform/platform.js";
import { ringSize } from "#src/xen/ring.js";
import { twoDomains } from "../xen/ring-pair.js";

const MEMORY = 8 << 20;

interface Shape {
  pages: number;
  protocol: string;
  persistent: boolean;
  /** 3: a direct request; 20: an indirect one. */
  segments: number;
}

/** A backend that maps the ring and writes what it is told; the frontend has one read under way. */
async function liar({ pages, protocol, persistent, segments }: Shape) {
  const domains = twoDomains(MEMORY);
  const { dom0, guest } = domains;
  const abi = ABIS[protocol]!;
  const queue = new BlkfrontQueue(guest, 0, pages, abi);
  queue.negotiate({ maxSegments: 32, persistent, flush: 3 });
  const { words } = dom0.foreign.mapRing(1, queue.ringRefs) as MappedRing;
  const port = dom0.events.bindInterdomain(1, queue.eventChannel);
  const into = new Uint8Array(segments * 4096).fill(0x11);
  const reading = queue.read(0, into);
  reading.catch(() => {});
  await null; // the push
  const request = new Int32Array(abi.stride / 4);
  words.copyOut(16, request);
  let rspProd = 0;
  return {
    ...domains,
    queue,
    words,
    into,
    reading,
    size: ringSize(pages * 4096, abi.stride),
    id: request[abi.idWord]!,
    /** A grant of the request's: its first segment's, or that of the page of segments. */
    gref: request[segments > 11 ? abi.indirectGrefsWord : abi.segmentWord]!,
    respond(id: number, op: number, status = 0, idHigh = 0) {
      words.copyIn(16 + (rspProd & 31) * (abi.stride / 4), Int32Array.of(id, idHigh, op | ((status & 0xffff) << 16)));
      words.store(2, ++rspProd);
    },
    tell() {
      dom0.events.notify(port);
      guest.vcpu.dispatch();
    },
  };
}

type Liar = Awaited<ReturnType<typeof liar>>;

const SHAPES: Shape[] = [1, 4, 16].flatMap((pages) =>
  [false, true].flatMap((persistent) => [
    { pages, protocol: "x86_64-abi", persistent, segments: 3 },
    { pages, protocol: "x86_32-abi", persistent, segments: 20 },
  ]),
);

describe.each(SHAPES)("$pages pages, $protocol, persistent $persistent, $segments segments", (shape) => {
  test.each<[string, (backend: Liar) => void]>([
    ["an id that was never used", (backend) => backend.respond(backend.size - 1 - backend.id, 0)],
    ["an id beyond the ring", (backend) => backend.respond(backend.size, 0)],
    ["an id of 2^31", (backend) => backend.respond(-0x8000_0000, 0)],
    ["an id whose high word is set", (backend) => backend.respond(backend.id, 0, 0, 1)],
    ["another operation", (backend) => backend.respond(backend.id, 1)],
    ["the outer operation of an indirect request", (backend) => backend.respond(backend.id, 6)],
    ["more responses than requests", (backend) => backend.words.store(2, 2)],
    ["an index far away", (backend) => backend.words.store(2, 0x8000_0000)],
    ["an index that goes back", (backend) => backend.words.store(2, -1)],
  ])("%s disables the device", async (_what, lie) => {
    const backend = await liar(shape);
    lie(backend);
    backend.tell();
    await expect(backend.reading).rejects.toMatchObject({ code: "PROTOCOL" });
    expect(backend.into.every((byte) => byte === 0x11)).toBe(true);
    await expect(backend.queue.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "PROTOCOL" });
    expect(backend.queue.inFlight).toBe(0);
  });

  test("an answer given twice disables the device after the first was taken", async () => {
    const backend = await liar(shape);
    backend.respond(backend.id, 0);
    backend.tell();
    await backend.reading;
    backend.respond(backend.id, 0);
    backend.tell();
    await expect(backend.queue.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "PROTOCOL" });
  });

  test("a page that the backend keeps mapped is never used for anything else", async () => {
    const backend = await liar(shape);
    const { dom0, guest } = backend;
    const handle = dom0.foreign.map(1, backend.gref, shape.persistent);
    expect(handle).toBeGreaterThanOrEqual(0);
    const page = dom0.foreign.page(handle);
    backend.respond(backend.id, 0);
    backend.tell();
    // With persistent grants it may stay mapped while the device is used, but not longer.
    if (shape.persistent) await backend.reading;
    else await expect(backend.reading).rejects.toThrow(/still had .* mapped/);
    backend.queue.close("closed by the test");
    const frames = new Set<number>();
    try {
      for (;;) frames.add(guest.grants.allocatePages(1).firstFrame);
    } catch (error) {
      expect(error).toMatchObject({ code: "NO_SPACE" });
    }
    expect(frames.size).toBeGreaterThan(MEMORY / 4096 - 33 - 4 - shape.pages * 2);
    expect(frames.has(page.byteOffset / 4096)).toBe(false);
  });
});
