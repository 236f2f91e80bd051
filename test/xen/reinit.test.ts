/** One frontend after another on the same vbd: a boot loader, then a kernel, each with rings of its own kind. */
import { randomBytes } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { frontendDevice } from "#src/xen/blkfront-device.js";
import { BlkfrontRings, type RingsOptions } from "#src/xen/blkfront-rings.js";
import { ABIS } from "#src/xen/blkif/layout.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { waitForState } from "#src/xen/xenbus.js";
import { BACKEND, FRONTEND, splitHost } from "./split-host.js";

let host: Awaited<ReturnType<typeof splitHost>>;
let loop: VcpuLoop;
let blkback: Awaited<ReturnType<typeof host.startBlkback>>;
afterEach(async () => {
  loop.stop();
  await host.stop();
});

const to = async (state: 1 | 3 | 4 | 5 | 6) => host.guestStore.write(`${FRONTEND}/state`, String(state));
async function backendIs(state: 2 | 4 | 5 | 6): Promise<void> {
  expect(await waitForState(host.store, BACKEND, [state], 2000)).toBe(state);
}

/** A driver that writes these keys beside what an earlier one left, as it found them. */
async function drives(options: RingsOptions, keys: (rings: BlkfrontRings) => Record<string, string | number>) {
  await backendIs(2);
  const rings = new BlkfrontRings(host.guest, 0, options);
  for (const [key, value] of Object.entries(keys(rings)))
    await host.guestStore.write(`${FRONTEND}/${key}`, String(value));
  await to(3);
  await backendIs(4);
  rings.negotiate({ maxSegments: 11, persistent: false, flush: 3 });
  rings.addTo(loop);
  await to(4);
  const facts = { sectors: host.disk.size / 512, sectorSize: 512, info: 0, canDiscard: true };
  return { rings, device: frontendDevice(51712, rings, facts) };
}

async function works({ device, rings }: Awaited<ReturnType<typeof drives>>): Promise<void> {
  const data = randomBytes(200_192);
  await device.write(1024, data);
  await device.flush();
  const found = Buffer.alloc(data.length);
  await host.disk.read(1024, found);
  expect(found.equals(data)).toBe(true);
  await device.read(1024, found.fill(0));
  expect(found.equals(data)).toBe(true);
  const pages = rings.queues.reduce((sum, { ringRefs }) => sum + ringRefs.length, 0);
  expect(host.dom0.foreign.mapped).toBe(pages);
}

/** Closes as a driver that unloads: the rings are its own again. */
async function closes({ rings }: Awaited<ReturnType<typeof drives>>): Promise<void> {
  await to(5);
  await backendIs(5);
  await to(6);
  await backendIs(6);
  expect(host.dom0.foreign.mapped).toBe(0);
  rings.removeFrom(loop);
  rings.close("unloaded");
}

async function attached(first: () => Promise<Awaited<ReturnType<typeof drives>>>) {
  host = await splitHost();
  loop = new VcpuLoop(host.guest.vcpu, { blocking: false, spins: 0 });
  void loop.run();
  blkback = await host.startBlkback();
  const attaching = host.attach();
  const driver = await first();
  await attaching;
  return driver;
}

const onePage32 = () =>
  drives({ abi: ABIS["x86_32-abi"]! }, ({ queues: [queue] }) => ({
    protocol: "x86_32-abi",
    "feature-persistent": 0,
    "ring-ref": queue!.ringRefs[0]!,
    "event-channel": queue!.eventChannel,
  }));

const twoQueuesOfFourPages = () =>
  drives({ queues: 2, pageOrder: 2 }, ({ queues }) => ({
    protocol: "x86_64-abi",
    "ring-page-order": 2,
    "multi-queue-num-queues": 2,
    ...Object.fromEntries(
      queues.flatMap(({ ringRefs, eventChannel }, i) => [
        [`queue-${i}/event-channel`, eventChannel],
        ...ringRefs.map((ref, page) => [`queue-${i}/ring-ref${page}`, ref]),
      ]),
    ),
  }));

/** Says ring-page-order 0 and one queue: ring-ref0, whatever else lies there. */
const oneNamedPage = () =>
  drives({}, ({ queues: [queue] }) => ({
    protocol: "x86_64-abi",
    "ring-page-order": 0,
    "multi-queue-num-queues": 1,
    "ring-ref0": queue!.ringRefs[0]!,
    "event-channel": queue!.eventChannel,
  }));

test("a 32-bit boot loader with one page, then a 64-bit kernel with two queues of four, then one page with all keys left", async () => {
  const loader = await attached(onePage32);
  await works(loader);
  await closes(loader);
  for (const next of [twoQueuesOfFourPages, oneNamedPage, twoQueuesOfFourPages]) {
    await to(1);
    const kernel = await next();
    await works(kernel);
    expect(await host.store.read(`${FRONTEND}/ring-ref`)).toMatch(/^\d+$/); // the loader's, of pages that are other pages now
    await closes(kernel);
  }
  expect(host.errors).toEqual([]);
});

test("a kernel that finds its predecessor's device Connected closes it first, and knows nothing of its rings", async () => {
  const crashed = await attached(twoQueuesOfFourPages);
  await works(crashed);
  crashed.rings.removeFrom(loop);
  for (const [state, answer] of [
    [5, 5],
    [6, 6],
  ] as const) {
    await to(state);
    await backendIs(answer);
  }
  expect(host.dom0.foreign.mapped).toBe(0);
  for (const key of ["ring-page-order", "multi-queue-num-queues"]) await host.guestStore.rm(`${FRONTEND}/${key}`);
  await to(1);
  await works(await onePage32());
});

test("offline there is no way back: a frontend that starts again after the detach is not served", async () => {
  const driver = await attached(onePage32);
  await host.store.write(`${BACKEND}/online`, "0");
  await closes(driver);
  await to(1);
  await host.store.write(`${FRONTEND}/unrelated`, "1");
  expect(await waitForState(host.store, BACKEND, [2], 100)).toBe(6);
});

test("a data plane that lost its rings takes them again, also while the frontend has yet to close", async () => {
  const driver = await attached(onePage32);
  const states: string[] = [];
  await host.store.watch(
    `${BACKEND}/state`,
    "states",
    async () => void states.push(await host.store.read(`${BACKEND}/state`)),
  );
  const lost = async () => {
    for (const queue of host.queues().splice(0)) await queue.close();
    blkback.lost({ domid: 1, devid: 51712 }, null);
  };
  await lost();
  while (host.connects() < 2 || states.at(-1) !== "4") await new Promise((resolve) => setTimeout(resolve, 1));
  expect(states).toContain("2");
  expect(await host.store.read(`${FRONTEND}/state`)).toBe("4");
  await works(driver);
  // The toolstack asks for the close; the frontend waits for its last answers.
  await host.store.write(`${BACKEND}/state`, "5");
  await lost();
  while (host.connects() < 3) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(await host.store.read(`${BACKEND}/state`)).toBe("5");
  await works(driver);
  await to(6);
  await backendIs(6);
  expect(host.dom0.foreign.mapped).toBe(0);
  expect(host.errors).toEqual([]);
});
