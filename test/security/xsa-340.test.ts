/**
 * XSA-340, 343, 344, 358, 359, 188, 505: event channels were used while another vcpu closed or reset them, or before they
 * were set up; resets took unboundedly long. Here peers send all the time while ports close, reset and are taken again.
 */
import { expect, test } from "vitest";
import { XEN_WORDS } from "#src/xen/platform/simulated/domain-pages.js";
import { host, race } from "./platform-support.js";

/** Binds whatever Dom0's port is unbound for this domain, and sends on every port that it has. */
const SENDER = `
  for (let port = 1; port < 24; port++) {
    try {
      platform.events.notify(port);
    } catch (error) {
      if (error.details.errno !== "EINVAL") throw error;
    }
    if ((state.turn = (state.turn ?? 0) + 1) % 3 !== 0) continue;
    try {
      platform.events.bindInterdomain(data.peer, 1 + (state.turn % 23));
      state.bound = (state.bound ?? 0) + 1;
    } catch (error) {
      if (error.details.errno === "ENOSPC") platform.hypercalls.reset();
      else if (!data.refusals.includes(error.details.errno)) throw error;
    }
  }
`;

test("resets while the peer binds and sends: afterwards everything is closed, and no handler of a closed port runs", async () => {
  const { xen, dom0, guests } = host();
  const { domid, pages } = guests[0]!;
  const sender = race(pages, 0, [xen.dom0], SENDER, { peer: 0, refusals: ["EINVAL"] });
  await sender.reached(100);
  let isOpen = false;
  let heard = 0;
  for (let round = 0; round < 60; round++) {
    isOpen = true;
    const ports = Array.from({ length: 20 }, () => dom0.events.allocUnbound(domid));
    for (const port of ports)
      dom0.events.listen(port, () => {
        heard++;
        if (!isOpen) expect.fail(`port ${port} is closed, and its handler ran`);
      });
    const { rounds } = sender;
    await sender.reached(rounds + 3);
    dom0.vcpu.dispatch();
    if (round % 2 === 0) xen.platform.hypercalls.reset(0);
    else for (const port of ports) dom0.events.close(port);
    isOpen = false;
    for (const port of ports) {
      expect(dom0.hypercalls.portStatus(port)).toEqual({ state: "closed" });
      expect(() => dom0.events.notify(port)).toThrow(expect.objectContaining({ details: { errno: "EINVAL" } }));
    }
    await sender.reached(sender.rounds + 1);
    dom0.vcpu.dispatch();
  }
  const { bound } = (await sender.stop()) as { bound: number };
  expect(bound).toBeGreaterThan(0);
  expect(heard).toBeGreaterThan(0);
  // Nothing that the guest has is bound to anything.
  for (let port = 1; port < 1024; port++) {
    const { state } = xen.platform.hypercalls.portStatus(port, domid);
    if (state === "interdomain") expect.fail(`port ${port} of the guest is still bound`);
  }
  for (const { xen: words } of [xen.dom0, pages]) expect(new Int32Array(words)[XEN_WORDS.lock]).toBe(0);
});

test("a port is whole before anybody sees it: whoever sees it bound sees by whom, and its events arrive", async () => {
  const { xen, dom0, guests } = host();
  const { domid, pages, guest } = guests[0]!;
  const watcher = race(
    xen.dom0,
    2,
    [pages],
    `
      for (let port = 1; port < 16; port++) {
        const status = platform.hypercalls.portStatus(port, data.domid);
        if (status.state === "closed") continue;
        state.seen = (state.seen ?? 0) + 1;
        if (status.domid !== 0) throw new Error("port " + port + " is " + JSON.stringify(status));
        if (status.state === "interdomain" && !(status.port > 0 && status.port < 1024)) throw new Error("half bound: " + JSON.stringify(status));
      }
    `,
    { domid },
  );
  for (let i = 0; watcher.rounds < 300 || i < 3000; i++) {
    const port = guest.events.allocUnbound(0);
    const local = dom0.events.bindInterdomain(domid, port);
    let rung = 0;
    dom0.events.listen(local, () => rung++);
    dom0.vcpu.dispatch();
    guest.events.notify(port);
    dom0.vcpu.dispatch();
    if (rung !== 2) expect.fail(`events that arrived: ${rung}`);
    dom0.events.close(local);
    guest.events.close(port);
    // The watcher wants the same lock, and perhaps this core: it gets both now and then.
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(await watcher.stop()).toEqual({ seen: expect.any(Number) });
});

test("a domain dies while its peer binds to it and sends", async () => {
  const { xen, guests } = host(4);
  const [sender, ...others] = guests as [(typeof guests)[number], ...typeof guests];
  for (const other of others) {
    for (let i = 0; i < 20; i++) other.guest.events.allocUnbound(sender.domid);
    const racer = race(sender.pages, 0, [other.pages], SENDER, { peer: other.domid, refusals: ["EINVAL", "ESRCH"] });
    await racer.reached(20);
    xen.destroy(other.domid);
    await racer.reached(racer.rounds + 20);
    await racer.stop();
    for (let port = 1; port < 1024; port++) {
      const status = xen.platform.hypercalls.portStatus(port, sender.domid);
      if (status.state === "interdomain") expect.fail(`port ${port} is bound to a dead domain`);
    }
    xen.platform.hypercalls.reset(sender.domid);
    xen.platform.vcpu.dispatch();
    expect(xen.domain(other.domid)).toBeUndefined();
  }
});
