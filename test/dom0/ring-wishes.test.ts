/** How many rings of how many pages a guest's disk has: by its vcpus, by the options of the attach, within what the backend offers. */
import { mkdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Host } from "#src/dom0/host.js";
import { connectNbd } from "#src/nbd/client.js";
import type { VbdOptions } from "#src/xen/toolstack.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { xvdWorld } from "../support/xvd.js";

const dir = tempDir();
let host: Host;

beforeAll(async () => {
  host = await Host.start({
    paths: { run: dir, home: dir },
    ensureDir: (path) => mkdirSync(path, { recursive: true }),
    removeDir: (path) => rmSync(path, { recursive: true, force: true }),
    onError: () => {},
    onChange: () => {},
  });
});
afterAll(() => host.stop());

test.each<[string, number, VbdOptions, number[]]>([
  ["one vcpu", 1, {}, [1]],
  ["three vcpus", 3, {}, [1, 1, 1]],
  ["more vcpus than the backend offers queues", 16, {}, [1, 1, 1, 1]],
  ["a ring of sixteen pages", 1, { ringPageOrder: 4 }, [16]],
  ["two queues of eight pages on four vcpus", 4, { queues: 2, ringPageOrder: 3 }, [8, 8]],
  ["four queues on one vcpu", 1, { queues: 4, ringPageOrder: 1 }, [2, 2, 2, 2]],
])("%s", async (what, vcpus, options, pages) => {
  const name = what.replaceAll(" ", "-");
  const disk = createRawDisk(dir, `${name}.dsk`, 4 << 20);
  await host.createDomain(name, { config: { vcpus } });
  const device = await host.attach({ disk, domain: name, options });
  expect(device.ring?.rings.map(({ ringRefs }) => ringRefs.length)).toEqual(pages);
  const client = await connectNbd(`nbd+unix:///?socket=${device.socket}`);
  await Promise.all(Array.from({ length: 256 }, (_, i) => client.write(i * 8192, new Uint8Array(4096).fill(i))));
  const found = new Uint8Array(4096);
  for (let i = 0; i < 256; i++) {
    await client.read(i * 8192, found);
    expect(found.every((byte) => byte === i)).toBe(true);
  }
  const seen = (await host.domain(name)).devices[0]!;
  const slots = pages.map((count) => count * 32);
  expect(seen.statistics!.rings.map(({ size }) => size)).toEqual(slots);
  expect(seen["frontend-rings"].map(({ size }) => size)).toEqual(slots);
  for (const [i, front] of seen["frontend-rings"].entries()) {
    expect(front.req_prod).toBe(seen.statistics!.rings[i]!.req_prod);
    expect(front.req_prod).toBeGreaterThan(0);
  }
  await client.close();
  await host.destroyDomain(name);
});

test("from the command line, and what is no number of rings is wrong usage", async () => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "16M");
  await world.xvd("attach", "a.dsk", "--queues", "2", "--ring-order", "2");
  const lines = await world.xvd("list");
  expect(lines).toMatch(/ring 0 of 4 pages, ring-ref \d+ \d+ \d+ \d+, event-channel \d+/);
  expect(lines).toMatch(/ring 1 of 4 pages/);
  for (const flags of [
    ["--queues", "0"],
    ["--queues", "many"],
    ["--ring-order", "5"],
  ]) {
    const { code, stderr } = await world.run(["attach", "a.dsk", ...flags]);
    expect({ flags, code, stderr }).toEqual({ flags, code: 2, stderr: expect.stringContaining("allowed") });
  }
});
