/**
 * XSA-338, 342, 107, 221: ports that were valid turned invalid, numbers beyond the limit were used, and peers that were not
 * there were followed. Each port that is none is EINVAL, for every operation, and changes nothing.
 */
import { describe, expect, test } from "vitest";
import { host } from "./platform-support.js";

const EINVAL = expect.objectContaining({ details: { errno: "EINVAL" } });
const ESRCH = expect.objectContaining({ details: { errno: "ESRCH" } });
const NO_PORTS = [0, 1024, 1025, 4095, 4096, 65536, 2 ** 31, 2 ** 32 + 1, -1, 1.5, Number.NaN];

/** The state of every port of both domains. */
function setUp() {
  const { xen, dom0, guests } = host();
  const { domid, guest } = guests[0]!;
  const states = () =>
    [0, domid].map((each) =>
      Array.from({ length: 1023 }, (_, i) => JSON.stringify(xen.platform.hypercalls.portStatus(i + 1, each))),
    );
  return { xen, dom0, domid, guest, states };
}

describe.each(NO_PORTS)("port %d", (port) => {
  test("is none to send to, bind, mask, unmask, poll or ask about, and closing it does nothing", () => {
    const { xen, dom0, domid, guest, states } = setUp();
    const before = states();
    for (const platform of [dom0, guest]) {
      expect(() => platform.events.notify(port)).toThrow(EINVAL);
      expect(() => platform.events.mask(port)).toThrow(EINVAL);
      expect(() => platform.events.unmask(port)).toThrow(EINVAL);
      expect(() => platform.events.poll([port], 0)).toThrow(EINVAL);
      expect(() => platform.hypercalls.portStatus(port)).toThrow(EINVAL);
      platform.events.close(port);
    }
    expect(() => dom0.events.bindInterdomain(domid, port)).toThrow(EINVAL);
    expect(() => guest.events.bindInterdomain(0, port)).toThrow(EINVAL);
    expect(() => xen.platform.hypercalls.portStatus(port, domid)).toThrow(EINVAL);
    expect(states()).toEqual(before);
  });
});

test("closed ports, somebody else's, bound ones and a VIRQ's cannot be bound or sent to", () => {
  const { dom0, domid, guest, states } = setUp();
  const forOther = guest.events.allocUnbound(7);
  const mine = guest.events.allocUnbound(0);
  const local = dom0.events.bindInterdomain(domid, mine);
  const before = states();
  for (const port of [forOther, mine, mine + 1, 1023])
    expect(() => dom0.events.bindInterdomain(domid, port)).toThrow(EINVAL);
  for (const port of [1, local]) expect(() => guest.events.bindInterdomain(0, port)).toThrow(EINVAL); // 1 is VIRQ_DOM_EXC's
  for (const gone of [9, 0x7ff0, 0x7fff, -1, 65536]) expect(() => dom0.events.bindInterdomain(gone, 1)).toThrow(ESRCH);
  for (const port of [mine + 1, 1023]) expect(() => guest.events.notify(port)).toThrow(EINVAL);
  expect(() => dom0.events.notify(1)).toThrow(EINVAL);
  guest.events.notify(forOther); // unbound: dropped
  expect(states()).toEqual(before);
  for (const nobody of [-1, 0x8000, 65536, 1.5]) expect(() => guest.events.allocUnbound(nobody)).toThrow(ESRCH);
});

test("the highest port works as the others do", () => {
  const { dom0, domid, guest } = setUp();
  let last = 0;
  while (last < 1023) last = guest.events.allocUnbound(0);
  const local = dom0.events.bindInterdomain(domid, last);
  let heard = 0;
  guest.events.listen(last, () => heard++);
  dom0.events.notify(local);
  guest.vcpu.dispatch();
  expect(heard).toBe(1);
  dom0.events.close(local);
  expect(guest.hypercalls.portStatus(last)).toEqual({ state: "unbound", vcpu: 0, domid: 0 });
});

test("a guest that forges its own bits reaches no port beyond the limit and no other domain", () => {
  const { xen, dom0, domid, guest } = setUp();
  const port = guest.events.allocUnbound(0);
  const local = dom0.events.bindInterdomain(domid, port);
  dom0.vcpu.dispatch();
  let heard = 0;
  dom0.events.listen(local, () => heard++);
  const info = new Int32Array(xen.pages(domid)!.sharedInfo);
  info.fill(-1); // all pending, all masked, everything selected, in all vcpus
  info.fill(0, 640, 768); // no mask
  expect(guest.vcpu.dispatch()).toBeLessThanOrEqual(1024);
  expect(heard).toBe(0);
  guest.events.notify(port);
  dom0.vcpu.dispatch();
  expect(heard).toBe(1);
});
