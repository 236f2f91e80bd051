/** `xvd resize dom:NAME/xvdX`: file, store, guest and partition table agree, and nothing that belongs to somebody is cut. */
import { statSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import type { AttachedDevice, DomainInfo } from "#src/dom0/api-types.js";
import { serveNbd } from "#src/nbd/server.js";
import { connectXenstoreSocket } from "#src/xen/platform/xenstore-socket.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { xvdWorld } from "../support/xvd.js";

const MIB = 1 << 20;
const world = xvdWorld();
let store: XenstoreClient;
let domid: number;

beforeAll(async () => {
  await world.xvd("domain", "create", "web1");
  store = new XenstoreClient(await connectXenstoreSocket(`${world.env.XVD_RUN}/xenstored/socket`));
  domid = (await device())!.domid;
});
afterAll(() => store.close());

async function device(vdev?: string): Promise<AttachedDevice & DomainInfo> {
  const domains = await world.json<DomainInfo[]>("domain", "list");
  const domain = domains.find(({ name }) => name === "web1")!;
  return (vdev ? domain.devices.find((each) => each.vdev === vdev) : domain) as AttachedDevice & DomainInfo;
}

async function attach(name: string, size: string, vdev: string): Promise<void> {
  await world.xvd("create", name, size);
  await world.xvd("attach", name, "--domain", "web1", "--vdev", vdev);
}

const sectors = async (number: number) =>
  Number(await store.read(`/local/domain/0/backend/vbd/${domid}/${number}/sectors`));

test("a larger disk: the guest sees it at once, the backup GPT moves, a partition grows and keeps its bytes", async () => {
  await world.xvd("create", "a.dsk", "64M");
  await world.xvd("part", "init", "a.dsk", "gpt");
  await world.xvd("part", "add", "a.dsk", "--size", "20M");
  await world.xvd("attach", "a.dsk", "--domain", "web1", "--vdev", "xvda");
  await world.xvd("io", "dom:web1/xvda1", "-c", "write -P 7 0 20M");
  const planned = await world.json("resize", "dom:web1/xvda", "128M", "--grow", "p1", "--dry-run");
  expect(planned).toMatchObject({ "old-size": 64 * MIB, "virtual-size": 128 * MIB, "dry-run": true });
  expect(statSync(world.path("a.dsk")).size).toBe(64 * MIB);
  expect(await world.xvd("resize", "dom:web1/xvda", "128M", "--grow", "p1")).toContain("became 128 MiB");
  expect(await sectors(51712)).toBe((128 * MIB) / 512);
  expect(await store.read(`/local/domain/0/backend/vbd/${domid}/51712/state`)).toBe("4");
  const seen = await device("xvda");
  expect(seen).toMatchObject({ size: 128 * MIB, state: "Connected" });
  expect(seen.partitions).toMatchObject([{ device: "/dev/xvda1", size: 126 * MIB }]);
  await world.xvd(
    "io",
    "dom:web1/xvda1",
    "-c",
    "read -P 7 0 20M",
    "-c",
    "write -P 9 100M 1M",
    "-c",
    "read -P 9 100M 1M",
  );
  expect(await world.xvd("part", "verify", "dom:web1/xvda")).not.toMatch(/backup/);
  expect(await world.json("resize", "dom:web1/xvda", "+1M")).toMatchObject({ "virtual-size": 129 * MIB });
  expect(statSync(world.path("a.dsk")).size).toBe(129 * MIB);
});

test("a smaller one: only with --shrink, never below a partition or data; then the table goes first", async () => {
  const refused = async (size: string, ...flags: string[]) => {
    const { code, stderr } = await world.run(["resize", "dom:web1/xvdb", size, ...flags]);
    return { code, stderr };
  };
  await world.xvd("create", "b.dsk", "64M");
  await world.xvd("part", "init", "b.dsk", "gpt");
  await world.xvd("part", "add", "b.dsk", "--size", "20M");
  await world.xvd("attach", "b.dsk", "--domain", "web1", "--vdev", "xvdb");
  expect(await refused("32M")).toEqual({ code: 1, stderr: expect.stringContaining("allowed with --shrink") });
  expect(await refused("16M", "--shrink")).toEqual({
    code: 1,
    stderr: expect.stringContaining("partition 1 would be cut"),
  });
  await world.xvd("io", "dom:web1/xvdb", "-c", "write -P 1 40M 4k");
  expect(await refused("32M", "--shrink")).toEqual({
    code: 1,
    stderr: expect.stringContaining("holds data, which would be cut"),
  });
  expect(await sectors(51728)).toBe((64 * MIB) / 512);
  await world.xvd("part", "verify", "dom:web1/xvdb");
  await world.xvd("io", "dom:web1/xvdb", "-c", "discard 40M 4k");
  expect(await world.json("resize", "dom:web1/xvdb", "-32M", "--shrink", "--dry-run")).toMatchObject({
    "virtual-size": 32 * MIB,
  });
  await world.xvd("resize", "dom:web1/xvdb", "-32M", "--shrink");
  expect(statSync(world.path("b.dsk")).size).toBe(32 * MIB);
  expect(await sectors(51728)).toBe((32 * MIB) / 512);
  expect((await device("xvdb")).size).toBe(32 * MIB);
  await world.xvd("part", "verify", "dom:web1/xvdb");
  await world.xvd("detach", "xvdb", "--domain", "web1");
  await world.xvd("part", "verify", "b.dsk");
});

test("what is no file of ours is refused: a partition of one, a network disk, a guest's partition, nothing at all", async () => {
  await attach("c.dsk", "16M", "xvdc");
  await world.xvd("part", "init", "dom:web1/xvdc", "gpt");
  await world.xvd("part", "add", "dom:web1/xvdc", "--size", "8M");
  await world.xvd("create", "p.dsk", "16M");
  await world.xvd("part", "init", "p.dsk", "mbr");
  await world.xvd("part", "add", "p.dsk", "--size", "8M");
  await world.xvd("attach", "p.dsk#p1", "--domain", "web1", "--vdev", "xvdd");
  const socket = world.path("net.sock");
  const server = await serveNbd({
    path: socket,
    exports: new Map([["", { device: memoryDevice(MIB, { writable: true }) }]]),
  });
  await world.xvd("attach", `nbd+unix:///?socket=${socket}`, "--domain", "web1", "--vdev", "xvde");
  for (const [name, message] of [
    ["dom:web1/xvdd", /it is a part of a disk, allowed are whole image files/],
    ["dom:web1/xvde", /it is no image file/],
    ["dom:web1/xvdc1", /it is a partition of xvdc/],
    ["dom:web1/xvdc#p1", /it is a part of a disk/],
    ["dom:web1/xvdz", /has no device xvdz/],
  ] as const) {
    const { code, stderr } = await world.run(["resize", name, "32M"]);
    expect({ name, code, stderr }).toEqual({ name, code: 1, stderr: expect.stringMatching(message) });
  }
  await world.xvd("detach", "xvde", "--domain", "web1");
  await server.close();
});

test("while the guest writes: every byte below the smaller size is there, nothing makes the file large again", async () => {
  await attach("d.dsk", "32M", "xvdf");
  const client = (await import("#src/nbd/client.js")).connectNbd;
  const busy = await client(`nbd+unix:///?socket=${(await device("xvdf")).socket}`);
  let running = true;
  let refused = 0;
  const work = Array.from({ length: 8 }, async (_, who) => {
    for (let i = 0; running; i++) {
      const offset = ((i * 8 + who) % 512) << 16;
      await busy.write(offset, new Uint8Array(4096).fill(0)).catch(() => refused++);
      await busy.write((who + 1) * 4096, new Uint8Array(4096).fill(who + 1));
    }
  });
  const sizes: number[] = [];
  for (const size of ["16M", "48M", "8M", "32M"]) {
    await world.xvd("resize", "dom:web1/xvdf", size, "--shrink");
    sizes.push(statSync(world.path("d.dsk")).size / MIB);
  }
  running = false;
  await Promise.all(work);
  expect(sizes).toEqual([16, 48, 8, 32]);
  expect(refused).toBeGreaterThan(0);
  const found = new Uint8Array(4096);
  for (let who = 0; who < 8; who++) {
    await busy.read((who + 1) * 4096, found);
    expect(found.every((byte) => byte === who + 1)).toBe(true);
  }
  await busy.close();
});
