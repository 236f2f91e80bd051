/** XSA-394: a guest could make the hypervisor fail an assertion on its reference counts by what it unmapped. */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { host } from "./platform-support.js";

test("unmapped twice, never mapped, somebody else's, no number: bad_handle, and nothing changes", () => {
  const { xen, dom0, guests } = host();
  const { domid, pages, grant, guest, flags } = guests[0]!;
  const { ref } = grant();
  const other = simulatedPlatform(xen.dom0, 2);
  other.introduce(pages);
  const kept = dom0.foreign.map(domid, ref, true);
  const gone = dom0.foreign.map(domid, ref, true);
  expect(dom0.foreign.unmap(gone)).toBe(GNTST.okay);
  const before = flags(ref);
  const wrong = [
    gone,
    kept + 256,
    1 << 18,
    (1 << 18) - 1,
    2 ** 31,
    2 ** 32 + kept,
    -1,
    -(2 ** 31),
    kept + 0.5,
    Number.NaN,
    Infinity,
  ];
  for (const handle of wrong) expect(dom0.foreign.unmap(handle)).toBe(GNTST.bad_handle);
  for (const handle of [kept, ...wrong]) expect(other.foreign.unmap(handle)).toBe(GNTST.bad_handle);
  for (const handle of [kept, ...wrong]) expect(guest.foreign.unmap(handle)).toBe(GNTST.bad_handle);
  for (const handle of wrong) expect(() => dom0.foreign.page(handle)).toThrow(TypeError);
  expect(flags(ref)).toBe(before);
  expect(xen.domain(domid)?.foreignMaps).toBe(1);
  expect(dom0.foreign.unmap(kept)).toBe(GNTST.okay);
  expect(dom0.foreign.unmap(kept)).toBe(GNTST.bad_handle);
  expect(guest.grants.endAccess(ref)).toBe(true);
});

test("a mapping that the hypervisor released with its vcpu is not released again", () => {
  const { xen, dom0, guests } = host();
  const { domid, grant, guest } = guests[0]!;
  const refs = [grant().ref, grant().ref];
  for (const ref of refs) dom0.foreign.map(domid, ref, false);
  for (let i = 0; i < 3; i++) xen.releaseVcpu(0, 1);
  expect(xen.domain(domid)?.foreignMaps).toBe(0);
  expect(refs.every((ref) => guest.grants.endAccess(ref))).toBe(true);
});
