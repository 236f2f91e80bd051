/** XSA-496 (CVE-2026-42492): binding a VIRQ that failed changed what was bound for everybody. */
import { expect, test } from "vitest";
import { SHUTDOWN } from "#src/xen/platform/simulated/hypercalls.js";
import { VIRQ } from "#src/xen/platform/simulated/virq.js";
import { host } from "./platform-support.js";

const errno = (name: string) => expect.objectContaining({ details: { errno: name } });

test("a VIRQ that cannot be bound for want of ports leaves everybody as it was", () => {
  const { xen, guests } = host(2);
  const [full, other] = guests as [(typeof guests)[number], (typeof guests)[number]];
  const changes: string[] = [];
  xen.onChange(({ domid, state }) => changes.push(`${domid} ${state}`));
  const timer = other.guest.hypercalls.bindVirq(VIRQ.timer);
  const ports = () =>
    [0, other.domid, full.domid].map((domid) =>
      Array.from({ length: 1023 }, (_, i) => xen.platform.hypercalls.portStatus(i + 1, domid)),
    );
  for (let last = 0; last < 1023; ) last = full.guest.events.allocUnbound(0);
  const before = ports();
  for (const virq of [VIRQ.timer, VIRQ.debug])
    for (let i = 0; i < 50; i++) expect(() => full.guest.hypercalls.bindVirq(virq)).toThrow(errno("ENOSPC"));
  expect(ports()).toEqual(before);
  expect(other.guest.hypercalls.portStatus(timer)).toEqual({ state: "virq", vcpu: 0, virq: VIRQ.timer });

  // Dom0's own stays bound and arrives, and the slot that failed is free when there is a port again.
  other.guest.hypercalls.shutdown(SHUTDOWN.poweroff);
  xen.platform.vcpu.dispatch();
  expect(changes).toEqual([`${other.domid} shutdown`]);
  full.guest.events.close(500);
  expect(full.guest.hypercalls.bindVirq(VIRQ.timer)).toBe(500);
  expect(() => full.guest.hypercalls.bindVirq(VIRQ.timer)).toThrow(errno("EEXIST"));
  full.guest.events.close(500);
  expect(full.guest.hypercalls.bindVirq(VIRQ.timer)).toBe(500);
});

test("Dom0 without a free port: another VIRQ fails, VIRQ_DOM_EXC still arrives", () => {
  const { xen, dom0, guests } = host();
  const { domid } = guests[0]!;
  const states: string[] = [];
  xen.onChange(({ state }) => states.push(state));
  for (let last = 0; last < 1023; ) last = dom0.events.allocUnbound(domid);
  for (const virq of [VIRQ.console, VIRQ.enomem, VIRQ.conRing, VIRQ.debug])
    expect(() => dom0.hypercalls.bindVirq(virq)).toThrow(errno("ENOSPC"));
  expect(() => dom0.hypercalls.bindVirq(VIRQ.domExc)).toThrow(errno("EEXIST"));
  xen.shutdown(domid, SHUTDOWN.crash);
  xen.destroy(domid);
  xen.platform.vcpu.dispatch();
  expect(states).toEqual(["dying", "gone"]);
});

test("no VIRQ, and those that are Dom0's alone", () => {
  const { dom0, guests } = host();
  const { guest } = guests[0]!;
  for (const virq of [-1, 4, 24, 25, 1000, 2 ** 32 + 3, 0.5, Number.NaN]) {
    expect(() => guest.hypercalls.bindVirq(virq)).toThrow(errno("EINVAL"));
    expect(() => dom0.hypercalls.bindVirq(virq)).toThrow(errno("EINVAL"));
  }
  for (const virq of [VIRQ.domExc, VIRQ.console, VIRQ.conRing, VIRQ.enomem])
    expect(() => guest.hypercalls.bindVirq(virq)).toThrow(
      expect.objectContaining({ code: "DENIED", details: { errno: "EPERM" } }),
    );
});
