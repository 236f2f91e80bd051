/** Migration between two hosts: no acknowledged write is lost and none is done twice, with shared disks and with copied ones. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
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
  let outstanding = 0;
  let [from, to] = [a, b];
  // Whether requests are under way at the moment of a move is chance: until some were.
  for (let moves = 0; moves < 3 || (outstanding === 0 && moves < 15); moves++) {
    await load.progress();
    const result = await move(from, to);
    outstanding += result.outstanding;
    ids.get(to === a ? "a" : "b")!.push(result.domid);
    expect([await from.names(), await to.names()]).toEqual([[], ["web"]]);
    expect(existsSync(join(from.run, "domains", "web"))).toBe(false);
    await load.progress();
    [from, to] = [to, from];
  }
  await load.stop();
  expect(outstanding).toBeGreaterThan(0);
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

describe("with its disks", () => {
  const copy = () => join(b.run, "images", "web.dsk");

  test("under a load: the copy has every acknowledged write, the old image stays as it was", async () => {
    const client = await connectNbd(a.socket("web"));
    await client.write(8 << 20, Buffer.alloc(1 << 20, 0xab));
    const load = counters(client);
    await load.progress();
    const result = await move(a, b, { withDisks: true });
    expect(result.disks).toEqual([{ vdev: "xvda", from: disk, to: copy(), copied: true }]);
    const left = readFileSync(disk);
    await isFree(disk);
    await load.progress();
    await load.stop();
    await load.verify(client);
    const into = Buffer.alloc(1 << 20);
    await client.read(8 << 20, into);
    expect(into.every((byte) => byte === 0xab)).toBe(true);
    await client.close();
    await written(copy(), load.verify);
    expect(readFileSync(disk).equals(left)).toBe(true);
    expect((await b.host.domain("web")).devices).toMatchObject([{ disk: copy() }]);
    expect(statSync(copy()).blocks * 512).toBeLessThan(4 << 20); // holes stay holes
  });

  test("a file of that name there is refused without --force, and replaced with it", async () => {
    mkdirSync(join(b.run, "images"));
    writeFileSync(copy(), "mine");
    await expect(move(a, b, { withDisks: true })).rejects.toThrow(/exists already, allowed with --force/);
    expect(readFileSync(copy(), "utf8")).toBe("mine");
    expect((await a.host.domain("web")).state).toBe("running");
    await move(a, b, { withDisks: true, force: true });
    expect(statSync(copy()).size).toBe(SIZE);
  });

  test("given up in the middle, or refused over there: no copy is left", async () => {
    b.state.intercept = async (name) => (name === "PUT arrivals" ? "swallow" : "answer");
    await expect(move(a, b, { withDisks: true })).rejects.toThrow(/Cannot reach Dom0/);
    expect(existsSync(copy())).toBe(false);
    const controller = new AbortController();
    b.state.intercept = async () => {
      controller.abort(new Error("interrupted"));
      return "answer";
    };
    const moving = a.host.migrations.migrate("web", { to: b.run, withDisks: true }, controller.signal);
    await expect(moving).rejects.toThrow(/interrupted/);
    expect(existsSync(copy())).toBe(false);
    expect((await a.host.domain("web")).devices).toMatchObject([{ state: "Connected", disk }]);
  });
});
