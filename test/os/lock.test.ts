import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type OpenFile, openFile } from "#src/os/file.js";
import { commandOf, findWriter } from "#src/os/holder.js";
import { libc } from "#src/os/libc.js";
import { type LockMode, lockFile } from "#src/os/lock.js";
import { built, startNode } from "../support/child.js";
import { tempDir } from "../support/temp-dir.js";

const opened: OpenFile[] = [];
afterEach(async () => {
  for (const file of opened.splice(0)) await file.close();
});

function makeFile(): string {
  const path = join(tempDir(), "guest.dsk");
  writeFileSync(path, new Uint8Array(4096));
  return path;
}

async function open(path: string, native: boolean): Promise<OpenFile> {
  const file = await openFile(path, { writable: true, native });
  opened.push(file);
  return file;
}

/** A child that holds the lock until it is ended. */
async function holderOf(path: string, mode: LockMode, native: boolean, directory: string) {
  const child = startNode(`
    import { openFile } from ${built("os/file.js")};
    import { lockFile } from ${built("os/lock.js")};
    const file = await openFile(${JSON.stringify(path)}, { writable: true, native: ${native} });
    lockFile(file, ${JSON.stringify(mode)}, { directory: ${JSON.stringify(directory)} });
    console.log("locked");
    setInterval(() => {}, 1000);`);
  expect(await child.line()).toBe("locked");
  return child;
}

describe.skipIf(libc() === null)("a lock whose holder cannot be seen", () => {
  /** The kernel's answer to the first `times` questions for others' locks is that there is one. */
  function inTheWay(file: OpenFile, times: number): OpenFile {
    const calls = libc()!;
    const testLock = (...args: Parameters<typeof calls.testLock>) => (times-- > 0 ? 1 : calls.testLock(...args));
    return { path: file.path, fd: file.fd, identity: file.identity, native: { ...calls, testLock } } as OpenFile;
  }

  test("is asked for once more: the holder may just have ended", async () => {
    const file = await open(makeFile(), true);
    lockFile(inTheWay(file, 1), "write").release();
    expect(() => lockFile(inTheWay(file, 1000), "write")).toThrow(/it is in use by another process$/);
    lockFile(file, "write").release(); // the refused one left nothing
  });
});

test.skipIf(!existsSync("/proc/self/fdinfo"))("who has a file open for writing is found by its identity", async () => {
  const path = makeFile();
  const file = await open(path, true);
  const start = (flags: string) =>
    startNode(`
      import { openSync } from "node:fs";
      openSync(${JSON.stringify(path)}, ${JSON.stringify(flags)});
      console.log("open");
      setInterval(() => {}, 1000);`);
  const reader = start("r");
  await reader.line();
  expect(findWriter(file.identity)).toBeNull(); // neither readers nor this process
  const writer = start("r+");
  await writer.line();
  expect(findWriter(file.identity)).toEqual({ pid: writer.pid, command: expect.stringContaining("node") });
});

describe.each([
  ["in the kernel", true],
  ["by files", false],
])("locks %s", (_name, native) => {
  if (native && libc() === null) return void test.skip("need native calls");

  test.each<[LockMode, LockMode, boolean]>([
    ["read", "read", true],
    ["read", "write", false],
    ["write", "read", false],
    ["write", "write", false],
    ["part-write", "part-write", true],
    ["part-write", "part-read", true],
    ["part-read", "read", true],
    ["part-read", "write", false],
    ["part-write", "read", false],
    ["part-write", "write", false],
    ["read", "part-write", false],
    ["write", "part-read", false],
  ])("held for %s, asked for %s: allowed %s", async (first, second, allowed) => {
    const path = makeFile();
    const directory = join(tempDir(), "locks");
    const [a, b] = [await open(path, native), await open(path, native)];
    const lock = lockFile(a, first, { directory });
    const ask = () => lockFile(b, second, { directory });
    if (allowed) ask().release();
    else
      expect(ask).toThrow(
        expect.objectContaining({ code: "DENIED", details: expect.objectContaining({ pid: process.pid }) }),
      );
    lock.release();
    lock.release();
    lockFile(b, second, { directory }).release();
  });

  test("another process is named, and its death frees the file", async () => {
    const path = makeFile();
    const directory = join(tempDir(), "locks");
    const child = await holderOf(path, "write", native, directory);
    const file = await open(path, native);
    expect(() => lockFile(file, "write", { directory })).toThrow(
      `Cannot open "${path}" for writing: it is in use by node (pid ${child.pid})`,
    );
    expect(() => lockFile(file, "read", { directory })).toThrow(
      `Cannot open "${path}": it is in use by node (pid ${child.pid}), allowed with --force-share`,
    );
    expect(() => lockFile(file, "write", { directory, purpose: "replace it" })).toThrow(
      /^Cannot replace it: it is in use/,
    );
    expect(await child.end("SIGKILL")).toBe("SIGKILL");
    lockFile(file, "write", { directory }).release();
  });

  test("a refused lock leaves nothing behind", async () => {
    const path = makeFile();
    const directory = join(tempDir(), "locks");
    const [a, b, c] = [await open(path, native), await open(path, native), await open(path, native)];
    const reader = lockFile(a, "read", { directory });
    expect(() => lockFile(b, "write", { directory })).toThrow();
    lockFile(c, "read", { directory }).release(); // would fail, had the refused writer kept a byte
    reader.release();
  });
});

describe("lock files", () => {
  test("a sign of a process that is gone is removed", async () => {
    const path = makeFile();
    const directory = join(tempDir(), "locks");
    const child = await holderOf(path, "write", false, directory);
    await child.end("SIGKILL");
    expect(readdirSync(directory)).toHaveLength(1);
    const lock = lockFile(await open(path, false), "write", { directory });
    expect(readdirSync(directory)).toEqual([expect.stringContaining(`.${process.pid}.`)]);
    lock.release();
    expect(readdirSync(directory)).toEqual([]);
  });

  test("signs of the dead go, whatever they were for; other files in the folder stay", async () => {
    const directory = join(tempDir(), "locks");
    const child = await holderOf(makeFile(), "read", false, directory);
    await child.end("SIGKILL");
    writeFileSync(join(directory, "notes.txt"), "");
    lockFile(await open(makeFile(), false), "write", { directory }).release();
    expect(readdirSync(directory)).toEqual(["notes.txt"]);
  });

  test.skipIf(!existsSync("/proc/self/stat"))("a pid that was given to another process does not count", async () => {
    const path = makeFile();
    const directory = join(tempDir(), "locks");
    const file = await open(path, false);
    mkdirSync(directory);
    lockFile(file, "write", { directory });
    const [sign] = readdirSync(directory);
    expect(readFileSync(join(directory, sign!), "utf8")).toMatch(/^\d+$/);
    writeFileSync(join(directory, sign!), "1");
    lockFile(await open(path, false), "write", { directory }).release();
  });
});

describe.skipIf(!existsSync("/proc/self/cmdline"))("what a process is called", () => {
  test.each([
    [["xvd.js", "dom0", "start"], "xvd dom0"],
    [["--", "/usr/bin/xvd", "--json", "clone", "a", "b"], "xvd clone"],
    [["other.js"], "node"],
  ])("node %j is %s", async (args, name) => {
    const dashes = args[0] === "--" ? [] : ["--"];
    const child = spawn(process.execPath, ["-e", "console.log(1); setInterval(() => {}, 1000)", ...dashes, ...args]);
    try {
      await new Promise((resolve) => child.stdout.once("data", resolve));
      expect(commandOf(child.pid!)).toBe(name);
    } finally {
      child.kill("SIGKILL");
      await new Promise((resolve) => child.once("close", resolve));
    }
  });
});
