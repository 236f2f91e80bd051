/** Migration between two hosts: no acknowledged write is lost and none is done twice, the disk is shared. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { connectNbd } from "#src/nbd/client.js";
import { serveNbd } from "#src/nbd/server.js";
import { openDisk } from "#src/stack/disk.js";
import { isFree } from "./host-support.js";
import { counters, move, SIZE, type TestDaemon, twoHosts, written } from "./two-hosts.js";

let a: TestDaemon;
let b: TestDaemon;
let disk: string;
beforeEach(async () => {
  ({ a, b, disk } = await twoHosts());
});
afterEach(async () => {
  await a.stop();
  await b.stop();
});

test("back and forth under a load on one connection: every acknowledged write is there, once, and nothing is left behind", async () => {
  const client = await connectNbd(a.socket("web"));
  const load = counters(client);
  const ids = new Map<string, number[]>([
    ["a", [(await a.host.domain("web")).domid]],
    ["b", []],
  ]);
  let [from, to] = [a, b];
  for (let moves = 0; moves < 3; moves++) {
    await load.progress();
    const result = await move(from, to);
    ids.get(to === a ? "a" : "b")!.push(result.domid);
    expect([await from.names(), await to.names()]).toEqual([[], ["web"]]);
    expect(existsSync(join(from.run, "domains", "web"))).toBe(false);
    await load.progress();
    [from, to] = [to, from];
  }
  await load.stop();
  await load.verify(client);
  await client.close();
  await written(disk, load.verify);
  await from.host.destroyDomain("web"); // it is where the next move would have begun
  for (const domid of ids.get("a")!) expect(await a.traces(domid)).toEqual([]);
  for (const domid of ids.get("b")!) expect(await b.traces(domid)).toEqual([]);
  // None is dying: all grants are back.
  for (const t of [a, b]) expect((await t.host.domains()).map(({ name }) => name)).toEqual(["Domain-0"]);
  await isFree(disk);
  expect([...a.errors, ...b.errors]).toEqual([]);
});

test("requests that the backend had not taken are done by the other host: every one once, and their client hears of it", async () => {
  const PAGE = 4096;
  const device = memoryDevice(SIZE);
  const written: number[] = [];
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const write = device.write.bind(device);
  device.write = async (offset, data) => {
    written.push(offset / PAGE);
    await gate;
    return write(offset, data);
  };
  const server = await serveNbd({ path: join(a.run, "slow.sock"), exports: new Map([["", { device }]]) });
  await a.host.detach("xvda", { domain: "web" });
  await a.host.attach({ disk: server.uri(), domain: "web" });
  const client = await connectNbd(a.socket("web"));
  const writes = Array.from({ length: 150 }, (_, i) => client.write(i * PAGE, Buffer.alloc(PAGE, i + 1)));
  await expect.poll(() => written.length).toBeGreaterThan(0);
  const moving = move(a, b);
  await expect.poll(() => a.host.domain("web").then(({ devices }) => devices[0]?.["frontend-state"])).toBe(5);
  const late = client.write(150 * PAGE, Buffer.alloc(PAGE, 151)); // the guest holds it
  open();
  const { outstanding } = await moving;
  expect(outstanding).toBeGreaterThan(0);
  await Promise.all([...writes, late]);
  expect([...written].sort((x, y) => x - y)).toEqual(Array.from({ length: 151 }, (_, i) => i));
  const found = Buffer.alloc(151 * PAGE);
  await client.read(0, found);
  for (let i = 0; i <= 150; i++) expect(found[i * PAGE]).toBe(i + 1);
  await client.close();
  await b.host.destroyDomain("web");
  await server.close();
});

test("the disk is locked by the source, by nobody, by the target: never by both", async () => {
  const seen: [string, boolean][] = [];
  const look = async (when: string) => {
    const free = await isFree(disk).then(
      () => true,
      () => false,
    );
    seen.push([when, free]);
  };
  b.state.intercept = async (name) => {
    if (name.endsWith("arrivals")) await look(name);
    return "answer";
  };
  await move(a, b);
  await look("after");
  expect(seen).toEqual([
    ["POST arrivals", false],
    ["PUT arrivals", true],
    ["after", false],
  ]);
  const holder = await openDisk(disk).catch((error: Error) => error.message);
  expect(holder).toMatch(/in use/);
  await b.host.destroyDomain("web");
  await isFree(disk);
});
