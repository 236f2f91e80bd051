/** XSA-300 (CVE-2019-17351): nothing limited what a guest could make its backends map. */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { host } from "./platform-support.js";

/** A quarter of the maptrack of 1024 frames of 256 handles. */
const SHARE = 65536;

test("a guest uses up its own share over all threads, another's disks go on, and all comes back", () => {
  const { xen, dom0, guests } = host(2);
  const [greedy, polite] = guests as [(typeof guests)[number], (typeof guests)[number]];
  const second = simulatedPlatform(xen.dom0, 2);
  second.introduce(greedy.pages);
  const refs = Array.from({ length: 700 }, () => {
    greedy.guest.hypercalls.setupTable(2);
    return greedy.guest.grants.grantAccess(0, 5, false);
  });
  // 128 pins of a kind are all that one reference takes, so many references and both kinds.
  const handles: [typeof dom0, number][] = [];
  const statuses = new Set<number>();
  const fill = () => {
    for (const ref of refs)
      for (const writable of [false, true])
        for (let i = 0; i < 64; i++)
          for (const platform of [dom0, second]) {
            const handle = platform.foreign.map(greedy.domid, ref, writable);
            if (handle < 0) {
              statuses.add(handle);
              if (platform === second) return;
            } else handles.push([platform, handle]);
          }
  };
  fill();
  expect([...statuses]).toEqual([GNTST.no_space]);
  // One thread's last frame of handles may not be used up when the other finds none left.
  expect(handles.length).toBeLessThanOrEqual(SHARE);
  expect(handles.length).toBeGreaterThan(SHARE - 2 * 256);
  expect(xen.domain(greedy.domid)?.foreignMaps).toBe(handles.length);

  const { ref, page } = polite.grant();
  const handle = dom0.foreign.map(polite.domid, ref, true);
  dom0.foreign.page(handle)[0] = 1;
  expect(page.bytes[0]).toBe(1);
  expect(dom0.foreign.unmap(handle)).toBe(GNTST.okay);

  const left = handles.splice(0).map(([platform, mine]) => platform.foreign.unmap(mine));
  expect(new Set(left)).toEqual(new Set([GNTST.okay]));
  expect(xen.domain(greedy.domid)?.foreignMaps).toBe(0);
  xen.destroy(greedy.domid);
  xen.platform.vcpu.dispatch();
  expect(xen.domain(greedy.domid)).toBeUndefined();
});

test("guests that come and go, each with its whole share in use, never use up the maptrack", () => {
  const { xen, dom0, guests } = host(0);
  expect(guests).toEqual([]);
  for (let life = 0; life < 10; life++) {
    const { pages } = xen.create(1 << 16);
    const { domid } = pages;
    dom0.introduce(pages);
    const guest = simulatedPlatform(pages, 0);
    const handles: number[] = [];
    while (handles.length < SHARE) {
      const granted = guest.grants.grantAccess(0, 5, false);
      for (let i = 0; i < 128 && handles.length < SHARE; i++) handles.push(dom0.foreign.map(domid, granted, true));
    }
    expect(Math.min(...handles.slice(-1000))).toBeGreaterThanOrEqual(0);
    xen.destroy(domid);
    for (const handle of handles) dom0.foreign.unmap(handle);
    xen.platform.vcpu.dispatch();
    dom0.forget(domid);
    expect(xen.domain(domid)).toBeUndefined();
  }
});

test("128 pins of a kind and not one more", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, guest } = guests[0]!;
  const { ref } = grant();
  const handles = [false, true].flatMap((writable) =>
    Array.from({ length: 128 }, () => dom0.foreign.map(domid, ref, writable)),
  );
  expect(Math.min(...handles)).toBeGreaterThanOrEqual(0);
  for (const writable of [false, true]) expect(dom0.foreign.map(domid, ref, writable)).toBe(GNTST.general_error);
  expect(dom0.foreign.copy([{ source: { domid, ref, offset: 0 }, dest: new Uint8Array(8), length: 8 }])).toEqual([
    GNTST.general_error,
  ]);
  expect(xen.domain(domid)?.foreignMaps).toBe(256);
  for (const handle of handles) dom0.foreign.unmap(handle);
  expect(guest.grants.endAccess(ref)).toBe(true);
});
