/** Other projects' clients on our server: libnbd's nbdinfo and nbdcopy, QEMU's qemu-img and qemu-io, fio. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { BlockDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { type Export, type NbdServer, serveNbd } from "#src/nbd/server.js";
import { sparseDevice } from "../nbd/devices.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { tool } from "./nbd-support.js";

const SIZE = 16 << 20;
const servers: NbdServer[] = [];
const devices: BlockDevice[] = [];
const errors: unknown[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
  for (const device of devices.splice(0)) await device.close();
  expect(errors.splice(0)).toEqual([]);
});

async function serve(exports: Record<string, Export>): Promise<NbdServer> {
  const path = join(tempDir(), "nbd");
  const server = await serveNbd({
    path,
    exports: new Map(Object.entries(exports)),
    onError: (error) => errors.push(error),
  });
  servers.push(server);
  return server;
}

/** A disk with data at its start, in its middle and at its end, and holes between. */
async function pattern(): Promise<BlockDevice> {
  const device = sparseDevice(SIZE);
  for (const [offset, length] of [
    [0, 65536],
    [5 << 20, (1 << 20) + 4096],
    [SIZE - 4096, 4096],
  ] as const)
    await device.write(offset, Buffer.alloc(length, `at ${offset} `));
  return device;
}

async function contents(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.size);
  await device.read(0, bytes);
  return bytes;
}

describe.skipIf(!havePeer("nbdinfo"))("nbdinfo", () => {
  test("reads what an export is", async () => {
    const server = await serve({ xvda: { device: await pattern(), description: "a disk" } });
    const info = JSON.parse(await tool("nbdinfo", "--json", server.uri()));
    expect(info).toMatchObject({ protocol: "newstyle-fixed", TLS: false, structured: true });
    expect(info.exports[0]).toMatchObject({
      "export-name": "xvda",
      description: "a disk",
      "export-size": SIZE,
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 32 << 20,
      contexts: ["base:allocation"],
    });
  });

  test("lists all exports", async () => {
    const server = await serve({
      xvda: { device: memoryDevice(SIZE) },
      "xvda 1/é": { device: memoryDevice(512), readOnly: true },
    });
    const { exports } = JSON.parse(await tool("nbdinfo", "--json", "--list", server.uri()));
    const found = exports.map((one: Record<string, unknown>) => [
      one["export-name"],
      one["export-size"],
      one.is_read_only,
    ]);
    expect(found).toEqual([
      ["xvda", SIZE, false],
      ["xvda 1/é", 512, true],
    ]);
  });

  test("sees the map", async () => {
    const server = await serve({ xvda: { device: await pattern() } });
    const map = JSON.parse(await tool("nbdinfo", "--json", "--map", server.uri("xvda")));
    expect(map.map(({ offset, length, type }: Record<string, number>) => [offset, length, type])).toEqual([
      [0, 65536, 0],
      [65536, (5 << 20) - 65536, 3],
      [5 << 20, (1 << 20) + 4096, 0],
      [(6 << 20) + 4096, SIZE - 4096 - (6 << 20) - 4096, 3],
      [SIZE - 4096, 4096, 0],
    ]);
  });
});

describe.skipIf(!havePeer("nbdcopy"))("nbdcopy", () => {
  test("copies out, with holes, and in again over four connections", async () => {
    const device = await pattern();
    const file = join(tempDir(), "copy.img");
    const source = await serve({ xvda: { device } });
    await tool("nbdcopy", source.uri(), file);
    expect(readFileSync(file).equals(await contents(device))).toBe(true);
    expect(statSync(file).blocks * 512).toBeLessThan(4 << 20);

    const copy = sparseDevice(SIZE);
    await copy.write(1 << 20, Buffer.alloc(65536, "stale"));
    const target = await serve({ xvda: { device: copy, fastZero: true } });
    await tool("nbdcopy", "--connections=4", "--requests=16", "--flush", file, target.uri());
    expect((await contents(copy)).equals(await contents(device))).toBe(true);
  });
});

describe.skipIf(!havePeer("qemu-img", "qemu-io"))("QEMU", () => {
  test("compares and converts, both ways", async () => {
    const device = await pattern();
    const file = join(tempDir(), "copy.img");
    const server = await serve({ xvda: { device, fastZero: true } });
    await tool("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri(), file);
    expect(readFileSync(file).equals(await contents(device))).toBe(true);
    expect(await tool("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri(), file)).toContain("identical");

    const copy = memoryDevice(SIZE, { blockSize: 4096 });
    const target = await serve({ xvda: { device: copy } });
    await tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-m", "8", "-W", file, target.uri());
    expect((await contents(copy)).equals(await contents(device))).toBe(true);
    await expect(
      tool(
        "qemu-img",
        "compare",
        "-f",
        "raw",
        "-F",
        "raw",
        (await serve({ x: { device: memoryDevice(SIZE) } })).uri(),
        file,
      ),
    ).rejects.toMatchObject({ code: 1 });
  });

  test("maps", async () => {
    const server = await serve({ xvda: { device: await pattern() } });
    const map = JSON.parse(await tool("qemu-img", "map", "-f", "raw", "--output=json", server.uri()));
    expect(map.map(({ start, data, zero }: Record<string, unknown>) => [start, data, zero])).toEqual([
      [0, true, false],
      [65536, false, true],
      [5 << 20, true, false],
      [(6 << 20) + 4096, false, true],
      [SIZE - 4096, true, false],
    ]);
  });

  test("reads, writes, zeroes, discards and flushes what it wrote", async () => {
    const device = sparseDevice(SIZE);
    const server = await serve({ xvda: { device } });
    const commands = [
      "write -P 0xab 64k 4k",
      "read -P 0xab 64k 4k",
      "write -f -P 3 1M 512",
      "read -P 3 1M 512",
      "write -P 9 2M 3M",
      "read -P 9 2M 3M",
      "write -z 2M 64k",
      "read -P 0 2M 64k",
      "write -z -u 2112k 64k",
      "read -P 0 2112k 64k",
      "discard 3M 1M",
      "aio_write -P 5 8M 1M",
      "aio_write -P 6 9M 1M",
      "aio_flush",
      "read -P 5 8M 1M",
      "read -P 6 9M 1M",
      "flush",
    ];
    const printed = await tool("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), server.uri());
    expect(printed).not.toContain("fail");
    expect((await contents(device)).subarray(64 << 10, (64 << 10) + 4096).every((byte) => byte === 0xab)).toBe(true);
  });

  test("is told errors", async () => {
    const server = await serve({ ro: { device: memoryDevice(SIZE), readOnly: true } });
    await expect(tool("qemu-io", "-f", "raw", "-c", "write 0 512", server.uri())).rejects.toThrow(
      /read-only|Permission|permitted/i,
    );
    await expect(tool("qemu-io", "-f", "raw", "-c", "read 0 512", server.uri("nope"))).rejects.toThrow(
      /there is no export/,
    );
  });
});

describe.skipIf(!havePeer("fio"))("fio", () => {
  test("verifies what it wrote at queue depth 16", async () => {
    const server = await serve({ xvda: { device: memoryDevice(SIZE, { blockSize: 512 }) } });
    const log = join(tempDir(), "fio.json");
    const job = join(tempDir(), "job.fio");
    writeFileSync(
      job,
      `[verify]\nioengine=nbd\nuri=${server.uri()}\nrw=randwrite\nbs=4k\nsize=8m\niodepth=16\nverify=crc32c\nverify_state_save=0\n`,
    );
    await tool("fio", "--output-format=json", `--output=${log}`, job);
    const { jobs } = JSON.parse(readFileSync(log, "utf8").replace(/^[^{]*/, ""));
    expect(jobs[0]).toMatchObject({ error: 0, write: { io_bytes: 8 << 20 }, read: { io_bytes: 8 << 20 } });
  });
});

describe("a file, whose clients have threads of their own", () => {
  async function fileExport() {
    const path = join(tempDir(), "disk.img");
    writeFileSync(path, Buffer.alloc(SIZE));
    const device = await openFileDevice(path, { writable: true });
    devices.push(device);
    return { path, server: await serve({ xvda: { device, fastZero: true } }) };
  }

  test.skipIf(!havePeer("nbdcopy", "qemu-img"))("is copied and filled over four connections at once", async () => {
    const { path, server } = await fileExport();
    const source = join(tempDir(), "source.img");
    writeFileSync(source, await contents(await pattern()));
    await tool("nbdcopy", "--connections=4", "--requests=16", "--flush", source, server.uri());
    expect(readFileSync(path).equals(readFileSync(source))).toBe(true);
    const copy = join(tempDir(), "copy.img");
    await tool("nbdcopy", "--connections=4", server.uri(), copy);
    expect(readFileSync(copy).equals(readFileSync(source))).toBe(true);
    expect(await tool("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri(), source)).toContain("identical");
  });

  test.skipIf(!havePeer("fio"))("keeps what fio wrote at depth 16 in four jobs", async () => {
    const { server } = await fileExport();
    const dir = tempDir();
    const job = join(dir, "job.fio");
    const shared = `ioengine=nbd\nuri=${server.uri()}\nrw=randwrite\nbs=4k\nsize=2m\niodepth=16\nverify=crc32c\nverify_state_save=0\n`;
    const jobs = [0, 1, 2, 3].map((i) => `[job${i}]\noffset=${4 * i}m\n`).join("");
    writeFileSync(job, `[global]\n${shared}${jobs}`);
    await tool("fio", "--output-format=json", `--output=${join(dir, "log")}`, job);
    const log = JSON.parse(readFileSync(join(dir, "log"), "utf8").replace(/^[^{]*/, ""));
    for (const { error, read } of log.jobs) expect([error, read.io_bytes]).toEqual([0, 2 << 20]);
  });

  test.skipIf(!havePeer("qemu-io"))("is written by qemu-io", async () => {
    const { path, server } = await fileExport();
    const commands = ["write -f -P 3 1M 512", "write -P 9 2M 3M", "write -z -u 2M 64k", "discard 3M 1M", "flush"];
    const printed = await tool("qemu-io", "-f", "raw", ...commands.flatMap((one) => ["-c", one]), server.uri());
    expect(printed).not.toContain("fail");
    const bytes = readFileSync(path);
    expect([bytes[1 << 20], bytes[2 << 20], bytes[(2 << 20) + 65536]]).toEqual([3, 0, 9]);
  });
});

describe.skipIf(!havePeer("nbd-client"))("nbd-client", () => {
  test("lists the exports of a server on TCP", async () => {
    const server = await serveNbd({
      port: 0,
      exports: new Map(["one", "two"].map((name) => [name, { device: memoryDevice(512) }])),
    });
    servers.push(server);
    // It ends with 1 although it has listed them.
    const printed = await tool("nbd-client", "-l", "127.0.0.1", String(server.port)).catch(({ stdout }) => stdout);
    expect(printed).toMatch(/one[\s\S]*two/);
  });
});
