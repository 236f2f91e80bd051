/** Domains come, shut down and go as in xen/common/domain.c; Dom0 hears of it by VIRQ_DOM_EXC. */
import { describe, expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import {
  CONSOLE_FRAME,
  peerView,
  vcpuId,
  XEN_WORDS,
  XENSTORE_FRAME,
} from "#src/xen/platform/simulated/domain-pages.js";
import { entryLock } from "#src/xen/platform/simulated/grant-entry.js";
import { SHUTDOWN } from "#src/xen/platform/simulated/hypercalls.js";
import { CONSOLE_REF, type DomainChange, Hypervisor, XENSTORE_REF } from "#src/xen/platform/simulated/hypervisor.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";

const MEMORY = 4 << 20;

/** A host, and one backend thread of Dom0 beside its main thread. */
function setUp() {
  const xen = new Hypervisor(MEMORY);
  const changes: DomainChange[] = [];
  xen.onChange((change) => changes.push(change));
  const backend = simulatedPlatform(xen.dom0, 1);
  /** A running guest that Dom0's backend knows. */
  const boot = () => {
    const created = xen.create(MEMORY);
    const { pages } = created;
    xen.unpause(pages.domid);
    const guest = simulatedPlatform(pages, 0);
    guest.introduce(peerView(xen.dom0));
    backend.introduce(pages);
    const grant = () => guest.grants.grantAccess(0, guest.grants.allocatePages(1).firstFrame, false);
    return { ...created, domid: pages.domid, guest, grant };
  };
  /** What Dom0 was told since the last look. */
  const told = () => {
    xen.platform.vcpu.dispatch();
    return changes.splice(0);
  };
  return { xen, backend, boot, told };
}

describe("a new domain", () => {
  test("is paused until as many unpauses as pauses", () => {
    const { xen } = setUp();
    const { domid } = xen.create(MEMORY).pages;
    expect(xen.domain(domid)).toEqual({ domid: 1, state: "paused", memory: MEMORY, foreignMaps: 0 });
    xen.pause(domid);
    expect(xen.unpause(domid)).toBe(false);
    expect(xen.unpause(domid)).toBe(true);
    expect(xen.unpause(domid)).toBe(true);
    expect(xen.domain(domid)?.state).toBe("running");
  });

  test("has its store and console pages granted to Dom0, and a port for each", () => {
    const { xen, backend, boot } = setUp();
    const { domid, pages, xenstorePort, consolePort, guest } = boot();
    for (const [ref, frame, port] of [
      [XENSTORE_REF, XENSTORE_FRAME, xenstorePort],
      [CONSOLE_REF, CONSOLE_FRAME, consolePort],
    ] as const) {
      const handle = backend.foreign.map(domid, ref, true);
      backend.foreign.page(handle)[5] = 77;
      expect(new Uint8Array(pages.memory, frame * 4096)[5]).toBe(77);
      expect(backend.foreign.unmap(handle)).toBe(GNTST.okay);
      expect(xen.platform.events.bindInterdomain(domid, port)).toBeGreaterThan(0);
    }
    const { firstFrame } = guest.grants.allocatePages(1);
    expect([0, XENSTORE_FRAME, CONSOLE_FRAME]).not.toContain(firstFrame);
  });

  test("never has an id that was used lately, nor one that is in use", () => {
    const { xen, told } = setUp();
    const kept = xen.create(4096 * 4).pages.domid;
    const seen = new Set([kept]);
    for (let i = 0; i < 100; i++) {
      const { domid } = xen.create(4096 * 4).pages;
      expect(seen.has(domid)).toBe(false);
      seen.add(domid);
      xen.destroy(domid);
      told();
    }
    expect(xen.domains().map(({ domid }) => domid)).toEqual([0, kept]);
  });
});

test.each(Object.entries(SHUTDOWN))("shutdown %s is told to Dom0 once, with the first reason", (_name, reason) => {
  const { xen, boot, told } = setUp();
  const { domid, guest } = boot();
  guest.hypercalls.shutdown(reason);
  xen.shutdown(domid, SHUTDOWN.crash);
  expect(told()).toEqual([{ domid, state: "shutdown", shutdownReason: reason }]);
  expect(told()).toEqual([]);
  expect(xen.domain(domid)).toMatchObject({ state: "shutdown", shutdownReason: reason });
  xen.resume(domid);
  expect(xen.domain(domid)?.state).toBe("running");
  guest.hypercalls.shutdown(SHUTDOWN.poweroff);
  expect(told()).toEqual([{ domid, state: "shutdown", shutdownReason: 0 }]);
});

test("a shutdown with no known reason, and changes to domains that are not there", () => {
  const { xen, boot } = setUp();
  const { domid, guest } = boot();
  for (const reason of [-1, 6, 1.5, Number.NaN]) expect(() => guest.hypercalls.shutdown(reason)).toThrow(RangeError);
  expect(xen.domain(domid)?.state).toBe("running");
  for (const verb of ["pause", "unpause", "destroy", "resume"] as const) {
    expect(() => xen[verb](9)).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
    expect(() => xen[verb](0)).toThrow(expect.objectContaining({ code: "DENIED" }));
  }
});

describe("destroy", () => {
  test("with nothing mapped the domain is gone at once", () => {
    const { xen, boot, told } = setUp();
    const { domid } = boot();
    xen.destroy(domid);
    expect(told()).toEqual([
      { domid, state: "dying" },
      { domid, state: "gone" },
    ]);
    expect(xen.domain(domid)).toBeUndefined();
  });

  test("a zombie until the last of its pages is unmapped; only that is told", () => {
    const { xen, backend, boot, told } = setUp();
    const { domid, grant, guest } = boot();
    const refs = [grant(), grant()];
    const handles = [...refs, refs[0]!].map((ref) => backend.foreign.map(domid, ref, true));
    const port = backend.events.bindInterdomain(domid, guest.events.allocUnbound(0));
    xen.destroy(domid);
    xen.destroy(domid);
    expect(told()).toEqual([{ domid, state: "dying" }]);
    expect(xen.domain(domid)).toMatchObject({ state: "dying", foreignMaps: 3 });
    expect(xen.isAlive(domid)).toBe(false);
    expect(backend.foreign.map(domid, refs[1]!, false)).toBe(GNTST.bad_domain);
    expect(backend.hypercalls.portStatus(port)).toEqual({ state: "unbound", vcpu: 1, domid });
    backend.forget(domid); // what is mapped can be unmapped all the same
    for (const handle of handles) {
      expect(told()).toEqual([]);
      expect(backend.foreign.unmap(handle)).toBe(GNTST.okay);
    }
    expect(told()).toEqual([{ domid, state: "gone" }]);
    expect(xen.domains().map((domain) => domain.domid)).toEqual([0]);
  });

  test("what the domain itself had mapped is released: the granter's bits, pins and count", () => {
    const { xen, boot, told } = setUp();
    const one = boot();
    const other = boot();
    other.guest.introduce(one.pages); // as a driver domain, which may see the other's memory
    const { firstFrame } = one.guest.grants.allocatePages(1);
    const ref = one.guest.grants.grantAccess(other.domid, firstFrame, false);
    for (const writable of [true, false, true])
      expect(other.guest.foreign.map(one.domid, ref, writable)).toBeGreaterThanOrEqual(0);
    expect(one.guest.grants.endAccess(ref)).toBe(false);
    expect(xen.domain(one.domid)?.foreignMaps).toBe(3);
    xen.destroy(other.domid);
    told();
    expect(xen.domain(one.domid)?.foreignMaps).toBe(0);
    expect(one.guest.grants.endAccess(ref)).toBe(true);
  });
});

test("what one vcpu held is released when its thread is no more, the others keep theirs", () => {
  const { xen, backend, boot, told } = setUp();
  const { domid, grant, guest, pages } = boot();
  const dead = simulatedPlatform(xen.dom0, 2);
  dead.introduce(pages);
  const ref = grant();
  const kept = backend.foreign.map(domid, ref, false);
  const many = Array.from({ length: 600 }, grant);
  for (const each of [ref, ...many]) expect(dead.foreign.map(domid, each, true)).toBeGreaterThanOrEqual(0);
  const port = guest.events.allocUnbound(0);
  dead.events.bindInterdomain(domid, port);
  xen.releaseVcpu(0, 2);
  expect(xen.domain(domid)?.foreignMaps).toBe(1);
  expect(many.every((each) => guest.grants.endAccess(each))).toBe(true);
  expect(guest.grants.endAccess(ref)).toBe(false);
  expect(guest.hypercalls.portStatus(port)).toMatchObject({ state: "unbound" });

  const next = simulatedPlatform(xen.dom0, 2);
  next.introduce(pages);
  const again = grant();
  const handle = next.foreign.map(domid, again, true);
  expect(next.events.bindInterdomain(domid, port)).toBeGreaterThan(0);
  xen.destroy(domid);
  expect(told()).toEqual([{ domid, state: "dying" }]);
  next.foreign.unmap(handle);
  backend.foreign.unmap(kept);
  expect(told()).toEqual([{ domid, state: "gone" }]);
});

test("locks that a thread held when it ended are opened, with no pin more or less; those of others stay shut", () => {
  const { xen, backend, boot } = setUp();
  const { domid, grant, guest, pages } = boot();
  const words = new Int32Array(pages.xen);
  const refs = [grant(), grant(), grant()] as const;
  backend.foreign.map(domid, refs[1], true);
  const lock = (vcpu: number) => entryLock(vcpuId(0, vcpu)) << 16;
  // Vcpu 2 ended at the turn of its loop: it has the entry, its bits perhaps set, and has counted nothing.
  words[XEN_WORDS.pins + refs[0]]! |= lock(2);
  new Int32Array(pages.grantTable)[refs[0] * 2]! |= 8 | 16;
  words[XEN_WORDS.pins + refs[1]]! |= lock(2);
  words[XEN_WORDS.pins + refs[2]]! |= lock(3);
  words[XEN_WORDS.lock] = vcpuId(0, 2);
  xen.releaseVcpu(0, 2);
  expect(words[XEN_WORDS.lock]).toBe(0);
  expect(xen.domain(domid)?.foreignMaps).toBe(1);
  expect(guest.grants.endAccess(refs[0])).toBe(true);
  expect(guest.grants.endAccess(refs[1])).toBe(false);
  expect(words[XEN_WORDS.pins + refs[2]]).toBe(lock(3));
  xen.releaseVcpu(0, 3);
  expect(words[XEN_WORDS.pins + refs[2]]).toBe(0);
  xen.releaseVcpu(0, 1);
  expect(guest.grants.endAccess(refs[1])).toBe(true);
});
