/** Save and restore: what had no answer is done after the restore, everything else exactly as it was; or nothing happens at all. */
import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { crc32c } from "#src/bytes/crc32c.js";
import { decodeSaved, encodeSaved, type SavedDomain } from "#src/dom0/saved-domain.js";
import { SAVED_DOMAIN, SAVED_PART } from "#src/dom0/saved-layout.js";
import { DiskError } from "#src/errors.js";
import { connectNbd } from "#src/nbd/client.js";
import { serveNbd } from "#src/nbd/server.js";
import { openDisk } from "#src/stack/disk.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";
import { isFree, testHost } from "./host-support.js";

const dir = tempDir();
const PAGE = 4096;
const SIZE = 4 << 20;
let t: Awaited<ReturnType<typeof testHost>>;
beforeAll(async () => {
  t = await testHost(dir);
});
afterAll(() => t.host.stop());

const file = (name: string) => join(dir, `${name}.sav`);

async function domainWithDisk(name: string) {
  const disk = createRawDisk(dir, `${name}.dsk`, SIZE);
  const config = { memory: 128, uuid: "6f6f9a5c-31b0-4d1e-9c05-0c1f7a1b2c3d", vcpus: 2 };
  const { domid } = await t.host.createDomain(name, { config, memory: 32 << 20 });
  await t.host.attach({ disk, domain: name, vdev: "xvdb", options: { discard: false } });
  return { disk, domid };
}

async function blockAt(path: string, index: number): Promise<number> {
  const device = await openDisk(path, { forceShare: true });
  const into = Buffer.alloc(PAGE);
  await device.read(index * PAGE, into);
  await device.close();
  expect(into.every((byte) => byte === into[0])).toBe(true);
  return into[0]!;
}

describe("a domain", () => {
  test("is gone after a save, its disks free, and comes back as it was under a new id", async () => {
    const { disk, domid } = await domainWithDisk("web");
    await t.store.write(`/local/domain/${domid}/data/report/load`, "0.5");
    const result = await t.host.saves.save("web", { file: file("web") });
    expect(result).toMatchObject({ domain: "web", running: false, outstanding: 0, size: statSync(file("web")).size });
    expect(statSync(file("web")).mode & 0o777).toBe(0o600); // it may hold what a guest wrote
    expect(await t.traces(domid)).toEqual([]);
    expect((await t.host.domains()).map(({ name }) => name)).toEqual(["Domain-0"]);
    await isFree(disk);
    const domain = await t.host.saves.restore({ file: file("web") });
    expect(domain).toMatchObject({ name: "web", state: "running" });
    expect(domain.domid).not.toBe(domid);
    expect(domain.devices).toMatchObject([{ vdev: "xvdb", disk, access: "rw", state: "Connected", size: SIZE }]);
    const home = `/local/domain/${domain.domid}`;
    expect(await t.store.read(`${home}/data/report/load`)).toBe("0.5");
    expect(await t.store.getPerms(`${home}/data/report/load`)).toEqual([`n${domain.domid}`]);
    expect(await t.store.read(`${home}/memory/target`)).toBe(String(128 << 10));
    expect(await t.store.read(`${home}/vm`)).toBe("/vm/6f6f9a5c-31b0-4d1e-9c05-0c1f7a1b2c3d");
    expect(await t.store.read(`/local/domain/0/backend/vbd/${domain.domid}/51728/discard-enable`)).toBe("0");
    await t.host.destroyDomain("web");
  });

  test("can be restored paused", async () => {
    await domainWithDisk("napping");
    await t.host.saves.save("napping", { file: file("napping") });
    expect(await t.host.saves.restore({ file: file("napping"), paused: true })).toMatchObject({
      state: "paused",
      devices: [{ vdev: "xvdb", size: SIZE }],
    });
    await t.host.destroyDomain("napping");
  });

  test("goes on after --leave-running, through the same connection", async () => {
    const { disk } = await domainWithDisk("lively");
    const client = await connectNbd(t.socket("lively", "xvdb"));
    await client.write(0, Buffer.alloc(PAGE, 1));
    expect(await t.host.saves.save("lively", { file: file("lively"), leaveRunning: true })).toMatchObject({
      running: true,
    });
    await client.write(PAGE, Buffer.alloc(PAGE, 2));
    await client.close();
    await t.host.lifecycle.shutdown("lively");
    expect([await blockAt(disk, 0), await blockAt(disk, 1)]).toEqual([1, 2]);
    const refused = t.host.saves.restore({ file: file("lively") });
    await expect(refused).rejects.toMatchObject({ code: "DENIED", details: { disk, changed: "modified" } });
    await t.host.saves.restore({ file: file("lively"), force: true });
    await t.host.destroyDomain("lively");
  });
});

test("requests that the backend had not taken are in the file, and are done once before anybody uses the disk", async () => {
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
  const server = await serveNbd({ path: join(dir, "d.sock"), exports: new Map([["", { device }]]) });
  await t.host.createDomain("loaded");
  await t.host.attach({ disk: server.uri(), domain: "loaded" });
  const client = await connectNbd(t.socket("loaded"));
  const acknowledged = new Set<number>();
  const writes = Array.from({ length: 150 }, (_, i) =>
    client.write(i * PAGE, Buffer.alloc(PAGE, i + 1)).then(() => acknowledged.add(i)),
  );
  const ended = Promise.allSettled(writes);
  await expect.poll(() => written.length).toBeGreaterThan(0);
  const saving = t.host.saves.save("loaded", { file: file("loaded") });
  await expect.poll(() => t.host.domain("loaded").then(({ devices }) => devices[0]?.["frontend-state"])).toBe(5);
  open();
  const { outstanding } = await saving;
  await ended;
  expect(outstanding).toBeGreaterThan(0);
  expect(acknowledged.size).toBeGreaterThan(0);
  const before = [...written];
  for (const i of acknowledged) expect(before).toContain(i);
  const { outstanding: calls } = decodeSaved(readFileSync(file("loaded")), "it");
  expect(calls[0]!.calls.map(({ kind }) => kind)).toEqual(Array.from({ length: outstanding }, () => "write"));
  await t.host.saves.restore({ file: file("loaded") });
  const counts = Array.from({ length: 150 }, (_, i) => written.filter((each) => each === i).length);
  expect(counts.filter((count) => count > 1)).toEqual([]); // none repeated
  expect(counts.filter((count) => count === 1).length).toBe(before.length + outstanding);
  const found = Buffer.alloc(PAGE);
  for (const i of written) {
    await device.read(i * PAGE, found);
    expect(found.every((byte) => byte === i + 1)).toBe(true);
  }
  await client.close();
  await t.host.destroyDomain("loaded");
  await server.close();
});

describe("nothing happens", () => {
  test("when the file exists already", async () => {
    await domainWithDisk("one");
    writeFileSync(file("one"), "mine");
    await expect(t.host.saves.save("one", { file: file("one") })).rejects.toMatchObject({ code: "DENIED" });
    expect(readFileSync(file("one"), "utf8")).toBe("mine");
    expect((await t.host.domain("one")).state).toBe("running");
    await t.host.saves.save("one", { file: file("one"), force: true });
    await t.host.saves.restore({ file: file("one") });
    await t.host.destroyDomain("one");
  });

  test("when the client goes away in the middle: the domain runs, its connections too, and there is no file", async () => {
    await domainWithDisk("two");
    const client = await connectNbd(t.socket("two", "xvdb"));
    const controller = new AbortController();
    controller.abort(new Error("gone"));
    await expect(t.host.saves.save("two", { file: file("two") }, controller.signal)).rejects.toThrow("gone");
    expect(existsSync(file("two"))).toBe(false);
    await client.write(0, Buffer.alloc(PAGE, 4));
    await client.close();
    await t.host.destroyDomain("two");
  });

  test("when the file cannot be written", async () => {
    await domainWithDisk("three");
    await expect(t.host.saves.save("three", { file: join(dir, "nowhere", "x.sav") })).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    expect((await t.host.domain("three")).devices).toMatchObject([{ state: "Connected" }]);
    await t.host.destroyDomain("three");
  });

  test("when a disk is in use by somebody else, the name is taken, or the disk has changed or gone", async () => {
    const { disk } = await domainWithDisk("four");
    await expect(t.host.saves.restore({ file: disk })).rejects.toMatchObject({
      code: "CORRUPT",
      message: `Cannot restore ${JSON.stringify(disk)}: it does not begin with XVDSAVED, allowed are files that 'xvd domain save' wrote (byte 0)`,
    });
    await t.host.saves.save("four", { file: file("four") });
    const bytes = readFileSync(file("four"));
    const restore = () => t.host.saves.restore({ file: file("four") });
    const holder = await openDisk(disk, { writable: true });
    await expect(restore()).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringMatching(/everything is taken back/),
    });
    await holder.close();
    await t.host.createDomain("four");
    await expect(restore()).rejects.toMatchObject({ message: "Cannot create domain four: it exists already" });
    await t.host.destroyDomain("four");
    const changed = decodeSaved(bytes, "it");
    const beyond = { kind: "write", offset: SIZE, data: new Uint8Array(PAGE) } as const;
    writeFileSync(file("beyond"), encodeSaved({ ...changed, outstanding: [{ devid: 51728, calls: [beyond] }] }));
    await expect(t.host.saves.restore({ file: file("beyond") })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(/1 outstanding requests failed, .*everything is taken back/),
    });
    const { atimeMs, mtimeMs } = statSync(disk);
    utimesSync(disk, atimeMs / 1000, mtimeMs / 1000 + 1);
    await expect(restore()).rejects.toMatchObject({ code: "DENIED", message: expect.stringMatching(/time of change/) });
    expect((await t.host.domains()).map(({ name }) => name)).toEqual(["Domain-0"]);
    expect(readFileSync(file("four")).equals(bytes)).toBe(true);
    await isFree(disk);
  });
});

describe("the file", () => {
  const saved: SavedDomain = {
    name: "web1",
    memory: 64 << 20,
    config: { memory: 128, uuid: "6f6f9a5c-31b0-4d1e-9c05-0c1f7a1b2c3d" },
    disks: [
      { disk: "/srv/a.dsk", vdev: "xvda", access: "rw" },
      { disk: "nbd://host/b", vdev: "xvdb", access: "ro", options: { cdrom: true } },
    ],
    stamps: [{ size: "1048576", modified: "1700000000000000001", inode: "77" }, null],
    nodes: [
      ["data/x", "1"],
      ["attr/os/name", "Linux"],
    ],
    outstanding: [
      {
        devid: 51712,
        calls: [
          { kind: "write", offset: 8192, data: new Uint8Array([1, 2, 3]) },
          { kind: "discard", offset: 2 ** 40, length: 4096 },
          { kind: "flush" },
        ],
      },
      { devid: 51728, calls: [{ kind: "write", offset: 0, data: new Uint8Array(0) }] },
    ],
  };
  const bytes = encodeSaved(saved);

  test("gives back what it was given", () => {
    expect(decodeSaved(bytes, "it")).toEqual(saved);
  });

  function refused(changed: Uint8Array): string {
    try {
      decodeSaved(changed, "it");
    } catch (error) {
      expect(error).toBeInstanceOf(DiskError);
      expect(["CORRUPT", "UNSUPPORTED"]).toContain((error as DiskError).code);
      return (error as DiskError).message;
    }
    return "";
  }

  test("every single bit counts", () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect([bit, refused(changed)]).not.toEqual([bit, ""]);
    }
  });

  test("cut anywhere, or with more behind it", () => {
    for (let length = 0; length < bytes.length; length++) expect(refused(bytes.subarray(0, length))).not.toBe("");
    expect(refused(Buffer.concat([bytes, Buffer.alloc(1)]))).toMatch(/lie behind its parts/);
  });

  test("of another version", () => {
    const changed = Buffer.from(bytes);
    changed.writeUInt32LE(2, 8);
    expect(refused(changed)).toMatch(/version is 2, allowed 1/);
  });

  /** As somebody would who knows the format: the checksums are right. */
  function forged(parts: Record<"config" | "nodes" | "calls", Uint8Array>): Uint8Array {
    const kinds = ["config", "nodes", "calls"] as const;
    const table = kinds.map((kind) =>
      SAVED_PART.encode({ kind, crc32c: crc32c(parts[kind]), length: parts[kind].length }),
    );
    const head = SAVED_DOMAIN.encode({ version: 1, parts: 3, tableCrc32c: 0 });
    SAVED_DOMAIN.encode({ version: 1, parts: 3, tableCrc32c: crc32c(Buffer.concat([head, ...table])) }, head);
    return Buffer.concat([head, ...table, ...kinds.map((kind) => parts[kind])]);
  }

  const text = (value: unknown) => Buffer.from(JSON.stringify(value));
  const { nodes, outstanding: _, ...config } = saved;
  const CALLS = Buffer.alloc(0);

  test.each<[string, Uint8Array, Uint8Array, Uint8Array, RegExp]>([
    ["a config that is no JSON", Buffer.from("{"), text([]), CALLS, /no JSON/],
    ["a config that is null", text(null), text([]), CALLS, /no object/],
    ["no name", text({ ...config, name: undefined }), text([]), CALLS, /name is/],
    [
      "a disk without a name",
      text({ ...config, disks: [{ disk: "a" }], stamps: [null] }),
      text([]),
      CALLS,
      /device name/,
    ],
    ["a terabyte of memory", text({ ...config, memory: 2 ** 40 }), text([]), CALLS, /memory is/],
    ["half a page of memory", text({ ...config, memory: (8 << 20) + 2048 }), text([]), CALLS, /whole pages/],
    ["too few stamps", text({ ...config, stamps: [] }), text([]), CALLS, /each disk's file/],
    ["a stamp of text", text({ ...config, stamps: ["x", null] }), text([]), CALLS, /disk's file is bad/],
    ["a node above its home", text(config), text([["../1/name", "x"]]), CALLS, /a store node is/],
    ["a node of the toolstack", text(config), text([["memory/target", "1"]]), CALLS, /allowed are those below/],
    ["a node with a huge value", text(config), text([["data/x", "x".repeat(5000)]]), CALLS, /bad value/],
    [
      "100 000 nodes",
      text(config),
      text(Array.from({ length: 100_000 }, () => ["data/x", ""])),
      CALLS,
      /list of store/,
    ],
    ["half a call", text(config), text([]), Buffer.alloc(20), /it needs 24/],
    ["a call of kind 0", text(config), text([]), Buffer.alloc(24), /unknown kind/],
    [
      "a write longer than the file",
      text(config),
      text([]),
      Buffer.from("00ca000001000000000000000000000000ffff0000000000", "hex"),
      /bytes, 0 are left/,
    ],
    [
      "an offset beyond 2^53",
      text(config),
      text([]),
      Buffer.from("00ca000001000000ffffffffffffffff0000000000000000", "hex"),
      /allowed 0\.\.2\^53-1/,
    ],
  ])("%s is refused", (_what, first, second, third, message) => {
    expect(refused(forged({ config: first, nodes: second, calls: third }))).toMatch(message);
  });

  test("mutations return or are refused, also with right checksums", () => {
    const bit = fc.tuple(fc.nat(), fc.nat(255));
    const parts = { config: text(config), nodes: text(nodes), calls: Buffer.alloc(96, 1) };
    fc.assert(
      fc.property(
        fc.constantFrom("config", "nodes", "calls"),
        fc.array(bit, { minLength: 1, maxLength: 8 }),
        (kind, at) => {
          const changed = Buffer.from(parts[kind as "config"]);
          for (const [place, value] of at) changed[place % changed.length] = value;
          refused(forged({ ...parts, [kind]: changed }));
        },
      ),
      { numRuns: 3000 },
    );
  });
});
