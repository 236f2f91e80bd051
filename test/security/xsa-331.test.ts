/** XSA-331 (CVE-2020-27675): an event channel was removed while its events were being handled. */
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { ringPair, twoDomains } from "../xen/ring-pair.js";

test("a handler that closes the channels after it: theirs do not run, and their numbers may serve others at once", () => {
  const { dom0, guest } = twoDomains();
  const remote = Array.from({ length: 40 }, () => guest.events.allocUnbound(0));
  const local = remote.map((port) => dom0.events.bindInterdomain(1, port));
  const heard: number[] = [];
  let reused = -1;
  for (const [i, port] of local.entries())
    dom0.events.listen(port, () => {
      heard.push(i);
      if (i !== 0) return;
      for (const other of local.slice(1, 39)) dom0.events.close(other);
      const next = guest.events.allocUnbound(0);
      reused = dom0.events.bindInterdomain(1, next);
      expect(local).toContain(reused);
    });
  dom0.vcpu.dispatch(); // the event that each binding brings
  expect(heard).toEqual([0, 39]);
  heard.length = 0;
  for (const port of remote) guest.events.notify(port); // to unbound ports: dropped
  dom0.vcpu.dispatch();
  expect(heard).toEqual([0, 39]);
  for (const port of local.slice(1, 39)) if (port !== reused) expect(() => dom0.events.notify(port)).toThrow(/closed/);
});

test("rings that disconnect while their frontend sends events without end, and connect again on the same channels", async () => {
  for (let round = 0; round < 20; round++) {
    const pair = ringPair(memoryDevice(1 << 20), { queues: 4 });
    const reads = Array.from({ length: 64 }, (_, i) => pair.device.read(i * 4096, new Uint8Array(4096)));
    let storming = true;
    const storm = (async () => {
      while (storming) {
        for (const { eventChannel } of pair.front.queues) pair.guest.events.notify(eventChannel);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await Promise.all(pair.backs.map((back) => back.close()));
    for (const { eventChannel } of pair.front.queues) pair.guest.events.notify(eventChannel);
    // Those that were taken are answered; the rest fails when the frontend lets go.
    storming = false;
    await storm;
    pair.front.close("closed by the test");
    await Promise.allSettled(reads);
    expect(pair.dom0.foreign.mapped).toBe(0);
    await pair.close().catch(() => {});
  }
});
