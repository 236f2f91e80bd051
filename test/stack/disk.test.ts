/** Opening disks by name: files, parts, network disks, devices of domains; locked and closed as they should be. */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { memoryDevice } from "#src/block/memory.js";
import { serveNbd } from "#src/nbd/server.js";
import { deviceSocket, openDisk, openDiskStack } from "#src/stack/disk.js";
import { tempDir } from "../support/temp-dir.js";
import { MIB, partitionedFile, poke, sparseFile } from "./support.js";

const dir = tempDir();

describe("files", () => {
  test("whole, and a partition of them", async () => {
    const path = await partitionedFile(dir, "guest.dsk", 64 * MIB, [10 * MIB, 20 * MIB]);
    const whole = await openDiskStack(path);
    expect(whole).toMatchObject({ format: "raw", offset: 0, sectorSize: null });
    expect(whole.device).toBe(whole.whole);
    await whole.device.close();

    const part = await openDiskStack(`${path}#p2`, { writable: true });
    expect({ size: part.device.size, offset: part.offset, sectorSize: part.sectorSize }).toEqual({
      size: 20 * MIB,
      offset: 11 * MIB,
      sectorSize: 512,
    });
    await part.device.write(5, Uint8Array.of(1, 2, 3));
    await part.device.close();
    const bytes = new Uint8Array(3);
    const again = await openDisk(path);
    await again.read(11 * MIB + 5, bytes);
    await again.close();
    expect([...bytes]).toEqual([1, 2, 3]);
  });

  test("4096-byte sectors are found", async () => {
    const path = await partitionedFile(dir, "4k.dsk", 64 * MIB, [8 * MIB], "gpt", 4096);
    const part = await openDiskStack(`${path}#p1`);
    expect([part.sectorSize, part.device.size]).toEqual([4096, 8 * MIB]);
    await part.device.close();
  });

  test("closing a partition gives the file's lock back; an open one keeps others out", async () => {
    const path = await partitionedFile(dir, "locked.dsk", 64 * MIB, [10 * MIB]);
    const part = await openDisk(`${path}#p1`, { writable: true });
    await expect(openDisk(path)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("in use by"),
    });
    const peeking = await openDisk(`${path}#p1`, { forceShare: true });
    await peeking.close();
    await part.close();
    await (await openDisk(path, { writable: true })).close();
  });

  test("what cannot be opened says why, and is left unlocked", async () => {
    const path = await partitionedFile(dir, "errors.dsk", 64 * MIB, [10 * MIB]);
    const blank = sparseFile(dir, "blank.dsk", MIB);
    const cases: [string, string, RegExp][] = [
      [`${path}#p7`, "NOT_FOUND", /partition 7 .*allowed 1/],
      [`${blank}#p1`, "NOT_FOUND", /has no partition table/],
      [`${path}#vg0/root`, "NOT_FOUND", /Volume group "vg0" not found/],
      ["lvm:vg0/root", "NOT_FOUND", /no devices are registered/],
      ["backup:r@latest/x", "UNSUPPORTED", /backups/],
      [join(dir, "nothing.dsk"), "NOT_FOUND", /no such file/],
      [dir, "IO", /directory/],
    ];
    const paths = { home: join(dir, "no-home"), run: join(dir, "no-run") };
    for (const [name, code, message] of cases)
      await expect(openDisk(name, { writable: true, paths }), name).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    for (const free of [path, blank]) await (await openDisk(free, { writable: true })).close();
  });

  test("contents choose no format: .dsk is raw, other names make us ask", async () => {
    const named = sparseFile(dir, "guest-wrote-this.dsk", MIB);
    const unnamed = sparseFile(dir, "unnamed", MIB);
    for (const path of [named, unnamed]) await poke(path, 0, Buffer.from("QFI\xfb\0\0\0\x03", "latin1"));
    const raw = await openDisk(named);
    expect(raw.size).toBe(MIB);
    await raw.close();
    await expect(openDisk(unnamed)).rejects.toMatchObject({
      code: "DENIED",
      message: expect.stringContaining("qcow2"),
    });
    await (await openDisk(unnamed, { format: "raw" })).close();
    await (await openDisk(sparseFile(dir, "empty", 0))).close();
  });
});

describe("over NBD", () => {
  test("a URI, its partition, and a device of a domain", async () => {
    const path = await partitionedFile(dir, "served.dsk", 32 * MIB, [4 * MIB]);
    const file = await openDisk(path, { writable: true });
    const paths = { home: join(dir, "home"), run: join(dir, "run") };
    const socket = deviceSocket(paths, "Domain-0", "xvda");
    mkdirSync(dirname(socket), { recursive: true });
    const server = await serveNbd({ exports: new Map([["", { device: file }]]), path: socket });
    try {
      for (const name of [server.uri(), "dom:0/xvda", "dom:Domain-0/xvda"]) {
        const disk = await openDiskStack(name, { paths, writable: true });
        expect([disk.device.size, disk.device.writable, disk.file, disk.format]).toEqual([32 * MIB, true, null, "raw"]);
        await disk.device.close();
      }
      const asked: number[] = [];
      const domainName = async (domid: number) => {
        asked.push(domid);
        return domid === 4 ? "Domain-0" : null;
      };
      const byId = await openDisk("dom:4/xvda", { paths, domainName });
      expect(byId.label).toBe("dom:Domain-0/xvda");
      await byId.close();
      await expect(openDisk("dom:5/xvda", { paths, domainName })).rejects.toMatchObject({
        code: "NOT_FOUND",
        message: expect.stringContaining("no domain 5"),
      });
      expect(asked).toEqual([4, 5]);
      const part = await openDisk("dom:0/xvda#p1", { paths });
      expect([part.size, part.writable]).toEqual([4 * MIB, false]);
      await part.close();
      await expect(openDisk("dom:0/xvdb", { paths })).rejects.toMatchObject({
        code: "NOT_FOUND",
        message: expect.stringContaining("has no device xvdb"),
      });
    } finally {
      await server.close();
      await file.close();
    }
  });

  test("a memory disk as large as the name says", async () => {
    const server = await serveNbd({
      exports: new Map([["mem", { device: memoryDevice(MIB) }]]),
      path: join(dir, "mem.sock"),
    });
    const disk = await openDisk(server.uri("mem"), { writable: true });
    await disk.write(0, Uint8Array.of(7));
    await disk.close();
    await server.close();
  });
});
