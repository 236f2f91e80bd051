/** XSA-349 (CVE-2020-29568): a guest that toggles a watched node made its backend's queue of events grow without end. */
import { expect, test } from "vitest";
import { Coalescer } from "#src/xen/xenbus.js";
import { FRONTEND, splitHost } from "../xen/split-host.js";

test("a million events while one is handled are one more run", async () => {
  let runs = 0;
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const coalescer = new Coalescer(
    async () => {
      runs++;
      await gate;
    },
    () => {},
  );
  for (let i = 0; i < 1_000_000; i++) coalescer.schedule("1/51712");
  expect(runs).toBe(1);
  release();
  await new Promise((resolve) => setImmediate(resolve));
  expect(runs).toBe(2);
});

test("a frontend that toggles its state keeps its own disk busy, and nothing of it stays", async () => {
  const host = await splitHost();
  await host.startBlkback();
  await host.startBlkfront();
  const next = host.next();
  await host.attach();
  const device = await next;
  await device.write(0, new Uint8Array(512).fill(7));
  for (let i = 0; i < 200; i++) {
    // Not waited for one by one: the writes overtake the backend's reading of them.
    const writes = Array.from({ length: 100 }, (_, k) => host.guestStore.write(`${FRONTEND}/state`, String(k % 9)));
    await Promise.all(writes);
  }
  await host.guestStore.write(`${FRONTEND}/state`, "6");
  await host.detach();
  expect(host.dom0.foreign.mapped).toBe(0);
  await host.stop();
});
