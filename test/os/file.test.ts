import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { alignedBuffer } from "#src/os/direct.js";
import { type OpenFile, type OpenFileOptions, openFile } from "#src/os/file.js";
import { errnoError, libc } from "#src/os/libc.js";
import { pattern } from "../contract/block-device.js";
import { tempDir } from "../support/temp-dir.js";

const MIB = 1 << 20;
const opened: OpenFile[] = [];

async function open(path: string, options: OpenFileOptions = {}): Promise<OpenFile> {
  const file = await openFile(path, options);
  opened.push(file);
  return file;
}

afterEach(async () => {
  for (const file of opened.splice(0)) await file.close();
});

/** Whether this system tells holes from data; elsewhere the fallback is all there is. */
const native = libc() !== null;

describe.each([
  ["with native calls", true],
  ["without native calls", false],
])("a file %s", (_name, useNative) => {
  const create = (name = "disk") => open(join(tempDir(), name), { create: true, native: useNative });

  test.each([1, 4095, 4096, 65_536, 65_537, 300_000, 3 * MIB])(
    "keeps %i bytes, in plain and in shared memory",
    async (length) => {
      const file = await create();
      for (const offset of [0, 4096, 100]) {
        const data = pattern(length, offset + 1);
        const shared = new Uint8Array(new SharedArrayBuffer(length + 10)).subarray(5, 5 + length);
        shared.set(data);
        await file.write(offset, shared);
        expect(file.size).toBeGreaterThanOrEqual(offset + length);
        expect(statSync(file.path).size).toBe(file.size);
        const found = new Uint8Array(length);
        await file.read(offset, found);
        expect(Buffer.compare(found, data)).toBe(0);
        shared.fill(0);
        await file.read(offset, shared);
        expect(Buffer.compare(shared, data)).toBe(0);
      }
    },
  );

  test("many reads and writes at once keep their places", async () => {
    const file = await create();
    await file.resize(8 * MIB);
    await Promise.all(Array.from({ length: 64 }, (_, i) => file.write(i * 131_072, pattern(131_072, i))));
    await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const found = new Uint8Array(131_072);
        await file.read(i * 131_072, found);
        expect(Buffer.compare(found, pattern(131_072, i))).toBe(0);
      }),
    );
  });

  test("a read past the end is an error that names the byte", async () => {
    const file = await create();
    await file.write(0, pattern(1000, 1));
    await expect(file.read(900, new Uint8Array(200))).rejects.toMatchObject({
      code: "IO",
      message: `Cannot read "${file.path}": it ends at byte 1000, asked for 900..1100`,
    });
  });

  test("a punched range reads as zeros, its neighbours stay, the size stays", async () => {
    const file = await create();
    const data = pattern(MIB, 3);
    await file.write(0, data);
    await file.punchHole(10_000, 500_000);
    await file.punchHole(MIB - 100, 10_000);
    data.fill(0, 10_000, 510_000).fill(0, MIB - 100);
    expect(Buffer.compare(readFileSync(file.path), data)).toBe(0);
    expect(file.size).toBe(MIB);
  });

  test("a zeroed range keeps its space", async () => {
    const file = await create();
    await file.write(0, pattern(MIB, 3));
    await file.zeroRange(8192, 65_536);
    await file.sync();
    expect(
      readFileSync(file.path)
        .subarray(8192, 8192 + 65_536)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(file.allocatedSize()).toBeGreaterThanOrEqual(MIB);
  });

  test("reserved space keeps what is there, and grows the file", async () => {
    const file = await create();
    await file.write(100, pattern(5000, 3));
    await file.allocate(0, 2 * MIB);
    expect(file.size).toBe(2 * MIB);
    expect(statSync(file.path).size).toBe(2 * MIB);
    await file.sync();
    expect(file.allocatedSize()).toBeGreaterThanOrEqual(2 * MIB);
    expect(Buffer.compare(readFileSync(file.path).subarray(100, 5100), pattern(5000, 3))).toBe(0);
  });

  test("its runs cover any range, and no byte of data is called a hole", async () => {
    const file = await create();
    await file.resize(16 * MIB);
    await file.write(4 * MIB, pattern(100, 1));
    await file.write(9 * MIB + 5, pattern(MIB, 2));
    const bytes = readFileSync(file.path);
    for (const [start, end] of [
      [0, 16 * MIB],
      [4 * MIB + 50, 10 * MIB],
      [15 * MIB, 16 * MIB],
    ] as const) {
      for (let at = start; at < end; ) {
        const run = file.runAt(at, end);
        expect(run.end).toBeGreaterThan(at);
        expect(run.end).toBeLessThanOrEqual(end);
        if (!run.data) expect(bytes.subarray(at, run.end).every((byte) => byte === 0)).toBe(true);
        at = run.end;
      }
    }
  });

  test("copies within the kernel where it can, and says 0 where it cannot", async () => {
    const [from, to] = [await create("a"), await create("b")];
    await from.write(0, pattern(MIB, 4));
    const count = await from.copyRangeTo(to, 4096, 8192, 100_000);
    expect(count).toBeLessThanOrEqual(100_000);
    if (!useNative) expect(count).toBe(0);
    if (count === 0) return;
    expect(to.size).toBe(8192 + count);
    expect(Buffer.compare(readFileSync(to.path).subarray(8192), pattern(MIB, 4).subarray(4096, 4096 + count))).toBe(0);
  });

  test("shares blocks where the file system can, and says so", async () => {
    const [from, to] = [await create("a"), await create("b")];
    await from.write(0, pattern(MIB, 4));
    if (await from.reflinkTo(to)) {
      expect(to.size).toBe(MIB);
      expect(Buffer.compare(readFileSync(to.path), pattern(MIB, 4))).toBe(0);
    } else {
      expect(to.size).toBe(0);
    }
  });

  test("past the cache: the same bytes or nothing done, seen by ordinary reads", async () => {
    const file = await create();
    await file.write(0, pattern(MIB, 1));
    const block = alignedBuffer(65_536);
    block.set(pattern(65_536, 2));
    const able = await file.writeDirect(131_072, block);
    if (!able) await file.write(131_072, block);
    const expected = pattern(MIB, 1);
    expected.set(pattern(65_536, 2), 131_072);
    expect(Buffer.compare(readFileSync(file.path), expected)).toBe(0);
    expect(await file.readDirect(4096, block)).toBe(able);
    if (able) expect(Buffer.compare(block, expected.subarray(4096, 4096 + 65_536))).toBe(0);
    if (!useNative) expect(able).toBe(false);
    if (able) expect(await file.writeDirect(2 * MIB, block)).toBe(true);
    if (able) expect(file.size).toBe(2 * MIB + 65_536);
    // None of these suits it: the offset, the length, the memory.
    expect(await file.writeDirect(100, block)).toBe(false);
    expect(await file.writeDirect(0, block.subarray(0, 1000))).toBe(false);
    expect(await file.readDirect(0, alignedBuffer(8192).subarray(1, 4097))).toBe(false);
  });

  test("write-back and syncs are taken", async () => {
    const file = await create();
    await file.write(0, pattern(MIB, 4));
    await file.startWriteback(0, MIB);
    await file.dataSync();
    await file.sync();
    expect(file.allocatedSize()).toBeGreaterThanOrEqual(MIB); // a file system that allocates late has done so now
    expect(Buffer.compare(readFileSync(file.path), pattern(MIB, 4))).toBe(0);
    await file.close();
    await expect(file.dataSync()).rejects.toMatchObject({ code: "IO", details: { errno: "EBADF" } });
    await expect(file.sync()).rejects.toMatchObject({ code: "IO", details: { errno: "EBADF" } });
  });
});

describe("opening", () => {
  test.each([
    ["nothing there", "nothere", "NOT_FOUND", /Cannot open ".*nothere": no such file or directory/],
    ["a folder", "folder", "UNSUPPORTED", /Cannot open ".*folder": it is a directory/],
    ["a pipe without another end", "pipe", "UNSUPPORTED", /it is neither a file nor a block device/],
    ["a socket", "socket", "UNSUPPORTED", /Cannot open ".*socket": it is neither a file nor a block device/],
    ["a device of characters", "/dev/null", "UNSUPPORTED", /it is neither a file nor a block device/],
  ])("refuses %s", async (_what, name, code, message) => {
    const folder = tempDir();
    mkdirSync(join(folder, "folder"));
    execFileSync("mkfifo", [join(folder, "pipe")]);
    const path = name.startsWith("/") ? name : join(folder, name);
    const server = createServer().listen(join(folder, "socket"));
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const failure = openFile(path);
    await expect(failure).rejects.toMatchObject({ code });
    await expect(failure).rejects.toThrow(message);
  });

  test("create refuses what exists", async () => {
    const path = join(tempDir(), "a");
    writeFileSync(path, "x");
    await expect(openFile(path, { create: true })).rejects.toMatchObject({ code: "DENIED" });
    expect(readFileSync(path, "utf8")).toBe("x");
  });

  test("read-only it does not write", async () => {
    const path = join(tempDir(), "a");
    writeFileSync(path, pattern(4096, 1));
    const file = await open(path);
    await expect(file.write(0, pattern(4096, 2))).rejects.toMatchObject({ code: "IO" });
    await expect(file.write(1, pattern(10, 2))).rejects.toMatchObject({ code: "IO" });
    expect(Buffer.compare(readFileSync(path), pattern(4096, 1))).toBe(0);
  });

  test("a file too large for its file system is NO_SPACE", async () => {
    const file = await open(join(tempDir(), "a"), { create: true });
    await expect(file.resize(2 ** 53 - 4096)).rejects.toMatchObject({ code: "NO_SPACE" });
    expect(file.size).toBe(0);
  });
});

describe.skipIf(!native)("native calls", () => {
  test("holes are told apart from data in a file of any size, at once", async () => {
    const file = await open(join(tempDir(), "a"), { create: true });
    await file.resize(2 ** 43);
    await file.write(2 ** 42, pattern(4096, 1));
    const first = file.runAt(0, 2 ** 43);
    if (first.data) return; // a file system without holes
    expect(first).toEqual({ data: false, end: 2 ** 42 });
    expect(file.runAt(2 ** 42, 2 ** 43)).toEqual({ data: true, end: 2 ** 42 + 4096 });
    expect(file.runAt(2 ** 42 + 4096, 2 ** 43)).toEqual({ data: false, end: 2 ** 43 });
  });

  test("a punched hole gives its space back", async () => {
    const file = await open(join(tempDir(), "a"), { create: true });
    await file.write(0, pattern(4 * MIB, 1));
    await file.sync();
    const before = file.allocatedSize();
    await file.punchHole(MIB, 2 * MIB);
    expect(before - file.allocatedSize()).toBeGreaterThanOrEqual(2 * MIB - 65_536);
  });

  test("errors of the system keep their names", async () => {
    expect(errnoError(-28, "fallocate")).toMatchObject({ code: "ENOSPC", syscall: "fallocate" });
    expect(await libc()!.fallocate(-1, 0, 0, 1)).toBe(errno("EBADF"));
    expect(libc()!.seekData(-1, 0)).toBe(errno("EBADF"));
    expect(libc()!.linkOpenFile(-1, "/nowhere/x")).toBeLessThan(0);
    expect(libc()!.deviceSize(-1)).toBe(errno("EBADF"));
  });

  test("they load in worker threads, several at once", async () => {
    const path = join(tempDir(), "a");
    writeFileSync(path, pattern(MIB, 1));
    const script = `
      import { openFile } from ${JSON.stringify(import.meta.resolve("#src/os/file.js"))};
      import { parentPort, workerData } from "node:worker_threads";
      const file = await openFile(workerData);
      const page = new Uint8Array(new SharedArrayBuffer(4096));
      let sum = 0;
      for (let at = 0; at < file.size; at += 4096) { await file.read(at, page); sum += page[0]; }
      parentPort.postMessage({ sum, native: file.native !== null });
      await file.close();`;
    const url = new URL(`data:text/javascript,${encodeURIComponent(script)}`);
    const results = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise((resolve, reject) =>
            new Worker(url, { workerData: path }).on("message", resolve).on("error", reject),
          ),
      ),
    );
    const bytes = pattern(MIB, 1);
    let sum = 0;
    for (let at = 0; at < MIB; at += 4096) sum += bytes[at]!;
    expect(results).toEqual([1, 2, 3].map(() => ({ sum, native: true })));
  });
});

function errno(name: string): number {
  return name === "EBADF" ? -9 : Number.NaN;
}
