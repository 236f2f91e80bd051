/**
 * XSA-134, 26, 255, 268, 379, 382, 384, 387, 486, 501, 517: switching a table between versions 1 and 2, and its status
 * frames, raced with whoever used it. Here there is version 1 alone, and a table only grows.
 */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { host, race } from "./platform-support.js";

test("no version but 1 can be set, neither by the guest nor for it, pinned or not", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, guest, flags } = guests[0]!;
  const { ref } = grant();
  const attempts = () => {
    for (const { hypercalls } of [guest, dom0, xen.platform]) {
      for (const [version, errno] of [
        [2, "ENOSYS"],
        [0, "EINVAL"],
        [3, "EINVAL"],
        [-1, "EINVAL"],
        [1.5, "EINVAL"],
      ] as const)
        expect(() => hypercalls.setVersion(version)).toThrow(
          expect.objectContaining({ code: "UNSUPPORTED", details: { errno } }),
        );
      hypercalls.setVersion(1);
      expect(hypercalls.getVersion()).toBe(1);
    }
  };
  attempts();
  const handle = dom0.foreign.map(domid, ref, true);
  const before = flags(ref);
  attempts();
  expect(flags(ref)).toBe(before);
  expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);
});

test("a table grows from 1 frame to 64, never shrinks, and references beyond it are none", () => {
  const { dom0, guests } = host();
  const { domid, guest, entries } = guests[0]!;
  const size = () => guest.hypercalls.querySize();
  expect(size()).toEqual({ status: GNTST.okay, frames: 1, maxFrames: 64 });
  entries[512 * 2] = 1; // written behind the table's present end
  entries[512 * 2 + 1] = 5;
  expect(dom0.foreign.map(domid, 512, false)).toBe(GNTST.bad_gntref);
  expect(guest.hypercalls.setupTable(2)).toBe(GNTST.okay);
  expect(dom0.foreign.map(domid, 512, false)).toBeGreaterThanOrEqual(0);
  for (const frames of [65, 1 << 20, 2 ** 32 + 1, -1, 1.5, Number.NaN])
    expect(guest.hypercalls.setupTable(frames)).toBe(GNTST.general_error);
  expect(guest.hypercalls.setupTable(0)).toBe(GNTST.okay);
  expect(guest.hypercalls.setupTable(1)).toBe(GNTST.okay);
  expect(size().frames).toBe(2);
  expect(guest.hypercalls.setupTable(64)).toBe(GNTST.okay);
  expect(size().frames).toBe(64);
  for (const ref of [32768, 32769, 2 ** 32 + 8]) expect(dom0.foreign.map(domid, ref, false)).toBe(GNTST.bad_gntref);
});

test("a granter's table grows as it takes references, and ends at 32768", () => {
  const { guests } = host();
  const { guest } = guests[0]!;
  const refs = new Set<number>();
  for (let i = 8; i < 32768; i++) refs.add(guest.grants.reserveRef());
  expect(refs.size).toBe(32760);
  expect(Math.min(...refs)).toBe(8);
  expect(Math.max(...refs)).toBe(32767);
  expect(() => guest.grants.reserveRef()).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
  guest.grants.releaseRef(4711);
  expect(guest.grants.reserveRef()).toBe(4711);
});

test("a table that grows while another vcpu maps: each reference is in or out, and frames only grow", async () => {
  const { xen, guests } = host();
  const { domid, pages, guest, entries } = guests[0]!;
  for (let ref = 8; ref < 32768; ref++) {
    entries[ref * 2 + 1] = 5;
    entries[ref * 2] = 1;
  }
  const mapper = race(
    xen.dom0,
    2,
    [pages],
    `
      const size = platform.hypercalls.querySize(data.domid).frames;
      if (size < (state.size ?? 1)) throw new Error("the table shrank");
      state.size = size;
      for (const ref of [size * 512 - 1, size * 512 - 512 + 8]) {
        const handle = platform.foreign.map(data.domid, ref, true);
        if (handle < 0) throw new Error("reference " + ref + " within " + size + " frames gave " + handle);
        platform.foreign.unmap(handle);
      }
      const beyond = platform.foreign.map(data.domid, 32768, true);
      if (beyond !== -3) throw new Error("beyond the table gave " + beyond);
    `,
    { domid },
  );
  for (let frames = 1; frames <= 64; frames++) {
    await mapper.reached(mapper.rounds + 3);
    expect(guest.hypercalls.setupTable(frames)).toBe(GNTST.okay);
  }
  await mapper.reached(mapper.rounds + 3);
  expect(await mapper.stop()).toEqual({ size: 64 });
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
});
