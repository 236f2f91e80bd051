/** Grants and event channels behave as the hypervisor's do (include/public/grant_table.h, event_channel.h). */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { createDomainPages, DomainView, XEN_WORDS } from "#src/xen/platform/simulated/domain-pages.js";
import { closeAllPorts } from "#src/xen/platform/simulated/event-channels.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { race } from "../security/platform-support.js";
import { twoDomains } from "./ring-pair.js";

const READING = 8;
const WRITING = 16;

describe("grants", () => {
  const setUp = () => {
    const domains = twoDomains();
    const page = domains.guest.grants.allocatePages(1);
    const flags = (ref: number) => new Uint16Array(domains.pages1.grantTable)[ref * 4]!;
    return { ...domains, page, flags };
  };

  test("a mapped page is the granter's own", () => {
    const { dom0, guest, page } = setUp();
    const ref = guest.grants.grantAccess(0, page.firstFrame, false);
    expect(ref).toBeGreaterThanOrEqual(8); // the first eight are reserved
    const handle = dom0.foreign.map(1, ref, true);
    dom0.foreign.page(handle)[17] = 99;
    expect(page.bytes[17]).toBe(99);
    expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
  });

  test("reading and writing bits stand exactly while pins do, and hold off the granter", () => {
    const { dom0, guest, page, flags } = setUp();
    const ref = guest.grants.grantAccess(0, page.firstFrame, false);
    const reader = dom0.foreign.map(1, ref, false);
    expect(flags(ref) & (READING | WRITING)).toBe(READING);
    const writer = dom0.foreign.map(1, ref, true);
    expect(flags(ref) & (READING | WRITING)).toBe(READING | WRITING);
    expect(guest.grants.endAccess(ref)).toBe(false);
    dom0.foreign.unmap(writer);
    expect(flags(ref) & (READING | WRITING)).toBe(READING);
    expect(guest.grants.endAccess(ref)).toBe(false);
    dom0.foreign.unmap(reader);
    expect(guest.grants.endAccess(ref)).toBe(true);
    expect(dom0.foreign.map(1, ref, false)).toBe(GNTST.general_error);
  });

  test("refusals, each with its status and nothing left", () => {
    const { dom0, guest, page, pages1 } = setUp();
    const readonly = guest.grants.grantAccess(0, page.firstFrame, true);
    const forOther = guest.grants.grantAccess(5, page.firstFrame, false);
    const beyond = guest.grants.grantAccess(0, 1 << 30, false);
    const negative = guest.grants.grantAccess(0, -1, false);
    expect(dom0.foreign.map(9, readonly, false)).toBe(GNTST.bad_domain);
    expect(dom0.foreign.map(1, readonly, true)).toBe(GNTST.general_error);
    expect(dom0.foreign.map(1, forOther, false)).toBe(GNTST.general_error);
    expect(dom0.foreign.map(1, beyond, false)).toBe(GNTST.bad_page);
    expect(dom0.foreign.map(1, negative, false)).toBe(GNTST.bad_page);
    for (const ref of [-1, 32768, 2 ** 31, 1.5, Number.NaN])
      expect(dom0.foreign.map(1, ref, false)).toBe(GNTST.bad_gntref);
    for (const handle of [0, 1, -1, 99]) expect(dom0.foreign.unmap(handle)).toBe(GNTST.bad_handle);
    expect(dom0.foreign.mapped).toBe(0);
    for (const ref of [readonly, forOther, beyond, negative]) expect(guest.grants.endAccess(ref)).toBe(true);
    const pins = new Int32Array(pages1.xen).subarray(XEN_WORDS.pins);
    expect(pins.every((pin) => pin === 0)).toBe(true);
  });

  test("an unmapped handle cannot be unmapped again", () => {
    const { dom0, guest, page } = setUp();
    const handle = dom0.foreign.map(1, guest.grants.grantAccess(0, page.firstFrame, false), true);
    expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
    expect(dom0.foreign.unmap(handle)).toBe(GNTST.bad_handle);
  });

  test("a guest holds no other domain's memory", () => {
    const { guest, dom0 } = setUp();
    const page = dom0.grants.allocatePages(1);
    const ref = dom0.grants.grantAccess(1, page.firstFrame, false);
    expect(guest.foreign.map(0, ref, false)).toBe(GNTST.bad_domain);
  });

  test("a dead domain's grants cannot be mapped, a mapping made before can be unmapped", () => {
    const { dom0, guest, page, pages1 } = setUp();
    const ref = guest.grants.grantAccess(0, page.firstFrame, false);
    const handle = dom0.foreign.map(1, ref, true);
    Atomics.store(new Int32Array(pages1.xen), XEN_WORDS.alive, 0);
    expect(dom0.foreign.map(1, ref, true)).toBe(GNTST.bad_domain);
    expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
  });

  test("random maps and unmaps: bits and pins follow the model", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.boolean()), { maxLength: 60 }), (steps) => {
        const { dom0, guest, flags } = setUp();
        const refs = [0, 1, 2, 3].map(() =>
          guest.grants.grantAccess(0, guest.grants.allocatePages(1).firstFrame, false),
        );
        const held: { ref: number; writable: boolean; handle: number }[] = [];
        for (const [which, writable, map] of steps) {
          if (map) held.push({ ref: refs[which]!, writable, handle: dom0.foreign.map(1, refs[which]!, writable) });
          else if (held.length > 0)
            expect(dom0.foreign.unmap(held.splice(which % held.length, 1)[0]!.handle)).toBe(GNTST.okay);
          for (const ref of refs) {
            const mine = held.filter((mapping) => mapping.ref === ref);
            const expected = (mine.length > 0 ? READING : 0) | (mine.some((mapping) => mapping.writable) ? WRITING : 0);
            expect(flags(ref) & (READING | WRITING)).toBe(expected);
          }
          expect(dom0.foreign.mapped).toBe(held.length);
        }
      }),
    );
  });

  test("memory runs out with an error, and comes back", () => {
    const { guest } = setUp();
    const all = guest.grants.allocatePages(2000);
    expect(() => guest.grants.allocatePages(100)).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
    guest.grants.freePages(all);
    expect(guest.grants.allocatePages(2000).bytes.every((byte) => byte === 0)).toBe(true);
  });
});

describe("event channels", () => {
  test("a bound pair carries events both ways, once each until they are taken", () => {
    const { dom0, guest } = twoDomains();
    const seen: string[] = [];
    const unbound = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, unbound);
    guest.events.listen(unbound, () => seen.push("guest"));
    dom0.events.listen(local, () => seen.push("dom0"));
    expect(dom0.vcpu.dispatch()).toBe(1); // binding leaves the local port pending once
    seen.length = 0;
    for (let i = 0; i < 3; i++) guest.events.notify(unbound);
    expect(dom0.vcpu.dispatch()).toBe(1);
    expect(dom0.vcpu.dispatch()).toBe(0);
    dom0.events.notify(local);
    expect(guest.vcpu.dispatch()).toBe(1);
    expect(seen).toEqual(["dom0", "guest"]);
  });

  test("the doorbell tells of an event that came after the ticket", () => {
    const { dom0, guest } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, port);
    const ticket = guest.vcpu.ticket();
    expect(guest.vcpu.spin(ticket, 10)).toBe(false);
    dom0.events.notify(local);
    expect(guest.vcpu.spin(ticket, 10)).toBe(true);
    guest.vcpu.wait(ticket, 10_000); // returns at once
  });

  test("ports that are not ours to bind", () => {
    const { dom0, guest, pages1 } = twoDomains();
    const forSomebodyElse = guest.events.allocUnbound(7);
    for (const port of [0, -1, 1024, 5000, 3.5, forSomebodyElse, forSomebodyElse + 1])
      expect(() => dom0.events.bindInterdomain(1, port)).toThrow(expect.objectContaining({ code: "PROTOCOL" }));
    expect(() => dom0.events.bindInterdomain(9, 1)).toThrow(/there is no domain 9/);
    const port = guest.events.allocUnbound(0);
    dom0.events.bindInterdomain(1, port);
    expect(() => dom0.events.bindInterdomain(1, port)).toThrow(/not unbound/);
    Atomics.store(new Int32Array(pages1.xen), XEN_WORDS.alive, 0);
    expect(() => dom0.events.bindInterdomain(1, port)).toThrow(/there is no domain 1/);
  });

  test("closing one end leaves the other unbound: events are dropped, and it can be bound again", () => {
    const { dom0, guest } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const first = dom0.events.bindInterdomain(1, port);
    dom0.events.close(first);
    dom0.events.close(first);
    guest.events.notify(port);
    expect(() => dom0.events.notify(first)).toThrow(/closed/);
    const second = dom0.events.bindInterdomain(1, port);
    guest.events.notify(port);
    let rung = 0;
    dom0.events.listen(second, () => rung++);
    dom0.vcpu.dispatch();
    expect(rung).toBe(1);
  });

  test("all ports can be taken, and no more", () => {
    const { guest } = twoDomains();
    for (let i = 1; i < 1024; i++) expect(guest.events.allocUnbound(0)).toBe(i);
    expect(() => guest.events.allocUnbound(0)).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
    guest.events.close(77);
    expect(guest.events.allocUnbound(0)).toBe(77);
  });

  test("two vcpus of one domain each get their own events", () => {
    const pages0 = createDomainPages(0, 1 << 20);
    const pages1 = createDomainPages(1, 1 << 20);
    const vcpus = [0, 1].map((vcpu) => simulatedPlatform(pages0, vcpu));
    const guest = simulatedPlatform(pages1, 0);
    guest.introduce(pages0);
    const counts = [0, 0];
    const ports = vcpus.map((platform, i) => {
      platform.introduce(pages1);
      const port = guest.events.allocUnbound(0);
      const local = platform.events.bindInterdomain(1, port);
      platform.events.listen(local, () => counts[i]!++);
      platform.vcpu.dispatch();
      return port;
    });
    counts.fill(0);
    guest.events.notify(ports[1]!);
    expect(vcpus[0]!.vcpu.dispatch()).toBe(0);
    expect(vcpus[1]!.vcpu.dispatch()).toBe(1);
    guest.events.notify(ports[0]!);
    guest.events.notify(ports[1]!);
    for (const platform of vcpus) platform.vcpu.dispatch();
    expect(counts).toEqual([1, 2]);
  });

  test("a dying domain's ports close, its peers' return to unbound", () => {
    const { dom0, guest, pages0, pages1 } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, port);
    const views = new Map([pages0, pages1].map((pages) => [pages.domid, new DomainView(pages)]));
    closeAllPorts(views, views.get(1)!);
    expect(() => guest.events.notify(port)).toThrow(/closed/);
    dom0.events.notify(local); // dropped
    expect(guest.vcpu.dispatch()).toBe(0);
  });

  test("a masked port's event waits, pending, until it is unmasked, and then arrives once", () => {
    const { dom0, guest } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, port);
    let heard = 0;
    guest.events.listen(port, () => heard++);
    guest.events.mask(port);
    const ticket = guest.vcpu.ticket();
    for (let i = 0; i < 3; i++) dom0.events.notify(local);
    expect(guest.vcpu.ticket()).toBe(ticket); // nobody is woken for it
    expect(guest.vcpu.dispatch()).toBe(0);
    guest.events.unmask(port);
    expect(guest.vcpu.ticket()).not.toBe(ticket);
    expect(guest.vcpu.dispatch()).toBe(1);
    guest.events.unmask(port);
    expect(guest.vcpu.dispatch()).toBe(0);
    expect(heard).toBe(1);
  });

  test("an event behind the mask after it was delivered is not lost either", () => {
    const { dom0, guest } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, port);
    let heard = 0;
    guest.events.listen(port, () => heard++);
    dom0.events.notify(local);
    guest.events.mask(port);
    expect(guest.vcpu.dispatch()).toBe(0);
    guest.events.unmask(port);
    expect(guest.vcpu.dispatch()).toBe(1);
    expect(heard).toBe(1);
  });

  test("poll gives pending ports, masked or not, and takes none of them", () => {
    const { dom0, guest } = twoDomains();
    const ports = [0, 1, 2].map(() => guest.events.allocUnbound(0));
    const locals = ports.map((port) => dom0.events.bindInterdomain(1, port));
    guest.events.mask(ports[1]!);
    expect(guest.events.poll(ports, 0)).toEqual([]);
    dom0.events.notify(locals[1]!);
    dom0.events.notify(locals[2]!);
    expect(guest.events.poll(ports, 60_000)).toEqual([ports[1], ports[2]]);
    expect(guest.events.poll([ports[0]!], 0)).toEqual([]);
    expect(guest.vcpu.dispatch()).toBe(1);
    expect(guest.events.poll(ports, 60_000)).toEqual([ports[1]]);
  });

  test("poll in a thread of its own is woken by an event behind a mask", async () => {
    const { dom0, guest, pages1 } = twoDomains();
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(1, port);
    const poller = race(pages1, 0, [], POLL, { port });
    // Sent when the thread has said that it polls; it may do so a moment before it waits, and must not sleep then.
    const xen = new Int32Array(pages1.xen);
    for (let round = 1; round <= 200; round++) {
      while (Atomics.load(xen, XEN_WORDS.polling) === 0 && poller.rounds < round)
        await new Promise((resolve) => setImmediate(resolve));
      dom0.events.notify(local);
      await poller.reached(round);
    }
    const stopped = poller.stop();
    dom0.events.notify(local);
    await stopped;
    expect(Atomics.load(xen, XEN_WORDS.polling)).toBe(0);
  });
});

const POLL = `
  const { port } = data;
  platform.events.mask(port);
  if (!platform.events.poll([port], 60_000).includes(port)) throw new Error("woken for nothing");
  platform.events.listen(port, () => {});
  platform.events.unmask(port);
  if (platform.vcpu.dispatch() !== 1) throw new Error("the event was not delivered");
`;
