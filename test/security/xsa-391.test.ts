/** XSA-391 (CVE-2021-28711): a backend that sends events without end kept its frontend from everything else. */
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { ringPair } from "../xen/ring-pair.js";

/** The backend's port of the only queue: the first of its domain. */
const PORT = 1;

test("a frontend that gets events all the time goes on reading, and its event loop turns", async () => {
  const pair = ringPair(memoryDevice(1 << 20));
  const flags = new Int32Array(new SharedArrayBuffer(8));
  const storm = new Worker(STORM, {
    eval: true,
    workerData: {
      platform: import.meta.resolve("#src/xen/platform/simulated/platform.js"),
      pages0: pair.pages0,
      pages1: pair.pages1,
      port: PORT,
      flags,
    },
  });
  while (Atomics.load(flags, 1) < 1000) await new Promise((resolve) => setImmediate(resolve));
  let timers = 0;
  const timer = setInterval(() => timers++, 1);
  for (let i = 0; i < 300; i++) await pair.device.read((i % 256) * 4096, new Uint8Array(4096));
  while (timers === 0) await new Promise((resolve) => setImmediate(resolve));
  clearInterval(timer);
  Atomics.store(flags, 0, 1);
  await storm.terminate();
  expect(pair.back.statistics.rd_req).toBe(300);
  expect(pair.front.queues[0]!.failure).toBeUndefined();
  await pair.close();
});

/** A thread of the backend's domain that does nothing but notify; it counts as it goes. */
const STORM = `
  const { workerData: { platform, pages0, pages1, port, flags } } = require("node:worker_threads");
  import(platform).then(({ simulatedPlatform }) => {
    const dom0 = simulatedPlatform(pages0, 2);
    dom0.introduce(pages1);
    while (Atomics.load(flags, 0) === 0) {
      dom0.events.notify(port);
      Atomics.add(flags, 1, 1);
    }
  });
`;
