/** XSA-332 and XSA-331 (CVE-2020-27673, 27675): events without end, and a channel that goes while it is served, hurt Dom0. */
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { createDomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { ringPair } from "../xen/ring-pair.js";

test("a guest that sends events all the time costs another's disk no request", async () => {
  const pair = ringPair(memoryDevice(1 << 20));
  const hostilePages = createDomainPages(2, 1 << 20);
  pair.dom0.introduce(hostilePages);
  const hostile = simulatedPlatform(hostilePages, 0);
  hostile.introduce(peerView(pair.pages0));
  const port = hostile.events.allocUnbound(0);
  const local = pair.dom0.events.bindInterdomain(2, port);
  let heard = 0;
  pair.dom0.events.listen(local, () => heard++);
  const flags = new Int32Array(new SharedArrayBuffer(8));
  const storm = new Worker(STORM, {
    eval: true,
    workerData: {
      platform: import.meta.resolve("#src/xen/platform/simulated/platform.js"),
      own: hostilePages,
      dom0: peerView(pair.pages0),
      port,
      flags,
    },
  });
  while (Atomics.load(flags, 1) < 1000) await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 300; i++) await pair.device.read((i % 256) * 4096, new Uint8Array(4096));
  expect(pair.back.statistics.rd_req).toBe(300);
  // The channel is taken away under the storm.
  pair.dom0.events.close(local);
  const before = heard;
  for (let i = 0; i < 300; i++) await pair.device.read((i % 256) * 4096, new Uint8Array(4096));
  expect(heard).toBe(before);
  Atomics.store(flags, 0, 1);
  await storm.terminate();
  expect(heard).toBeGreaterThan(0);
  await pair.close();
});

test("a port that is closed inside its own handler", async () => {
  const pair = ringPair(memoryDevice(1 << 20));
  const port = pair.guest.events.allocUnbound(0);
  const local = pair.dom0.events.bindInterdomain(1, port);
  let heard = 0;
  pair.dom0.events.listen(local, () => {
    heard++;
    pair.dom0.events.close(local);
  });
  for (let i = 0; i < 5; i++) {
    pair.guest.events.notify(port);
    await pair.device.read(0, new Uint8Array(4096));
  }
  expect(heard).toBe(1);
  await pair.close();
});

const STORM = `
  const { workerData: { platform, own, dom0, port, flags } } = require("node:worker_threads");
  import(platform).then(({ simulatedPlatform }) => {
    const guest = simulatedPlatform(own, 0);
    guest.introduce(dom0);
    while (Atomics.load(flags, 0) === 0) {
      guest.events.notify(port);
      Atomics.add(flags, 1, 1);
    }
  });
`;
