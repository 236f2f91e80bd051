/** QEMU's tools judge our locks, and we theirs. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { libc } from "#src/os/libc.js";
import { createStaged } from "#src/os/staged.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

function makeDisk(): string {
  const path = join(tempDir(), "guest.dsk");
  writeFileSync(path, "");
  truncateSync(path, 1 << 20);
  return path;
}

function run(program: string, ...args: string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  return { status, stderr };
}

/** Whether the process holds locks: its socket may be there a moment earlier than its disk is open. */
function hasLocks(pid: number): boolean {
  const dir = `/proc/${pid}/fdinfo`;
  return readdirSync(dir).some((fd) => {
    try {
      return readFileSync(join(dir, fd), "utf8").includes("lock:");
    } catch {
      return false; // closed meanwhile
    }
  });
}

/** A QEMU process that holds the disk while `work` runs; ready when its socket is there and its locks are taken. */
async function whileHeld(
  program: string,
  args: readonly string[],
  socket: string,
  work: (pid: number) => Promise<void>,
): Promise<void> {
  const child = spawn(program, args, { stdio: "ignore" });
  const closed = new Promise((resolve) => child.once("close", resolve));
  try {
    while (!existsSync(socket) || !hasLocks(child.pid!)) {
      if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await work(child.pid!);
  } finally {
    child.kill("SIGTERM");
    await closed;
  }
}

describe.skipIf(libc() === null || !havePeer("qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"))(
  "QEMU and we",
  () => {
    test("while we write, QEMU neither reads nor writes", async () => {
      const path = makeDisk();
      const device = await openFileDevice(path, { writable: true });
      expect(run("qemu-io", "-f", "raw", "-c", "write 0 4k", path).stderr).toMatch(/Failed to get .* lock/);
      expect(run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", path).stderr).toMatch(/Failed to get .* lock/);
      expect(run("qemu-img", "compare", "-f", "raw", "-F", "raw", path, path).stderr).toMatch(/Failed to get .* lock/);
      await device.close();
      expect(run("qemu-io", "-f", "raw", "-c", "write 0 4k", path).status).toBe(0);
    });

    test("while we read, QEMU reads and does not write", async () => {
      const path = makeDisk();
      const device = await openFileDevice(path);
      expect(run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", path).status).toBe(0);
      expect(run("qemu-io", "-f", "raw", "-c", "write 0 4k", path).stderr).toMatch(/Failed to get .* lock/);
      await device.close();
    });

    test("a shared look takes no lock", async () => {
      const path = makeDisk();
      const device = await openFileDevice(path, { forceShare: true });
      expect(run("qemu-io", "-f", "raw", "-c", "write 0 4k", path).status).toBe(0);
      await device.close();
    });

    test("what qemu-nbd writes we neither write, read nor replace; forced, we read", async () => {
      const path = makeDisk();
      const socket = join(tempDir(), "s");
      await whileHeld("qemu-nbd", ["-f", "raw", "-t", "-k", socket, path], socket, async (pid) => {
        await expect(openFileDevice(path, { writable: true })).rejects.toThrow(
          `Cannot open "${path}" for writing: it is in use by qemu-nbd (pid ${pid})`,
        );
        await expect(openFileDevice(path)).rejects.toThrow(
          `Cannot open "${path}": it is in use by qemu-nbd (pid ${pid}), allowed with --force-share`,
        );
        await expect(createStaged(path, { force: true })).rejects.toThrow(
          `Cannot replace "${path}": it is in use by qemu-nbd (pid ${pid})`,
        );
        await (await openFileDevice(path, { forceShare: true })).close();
      });
      await (await openFileDevice(path, { writable: true })).close();
    });

    test("what qemu-nbd reads we read and do not write", async () => {
      const path = makeDisk();
      const socket = join(tempDir(), "s");
      await whileHeld("qemu-nbd", ["-r", "-f", "raw", "-t", "-k", socket, path], socket, async () => {
        await (await openFileDevice(path)).close();
        await expect(openFileDevice(path, { writable: true })).rejects.toThrow(/in use by qemu-nbd/);
      });
    });

    test("qemu-storage-daemon's writable export is in use", async () => {
      const path = makeDisk();
      const socket = join(tempDir(), "s");
      const args = [
        ["--blockdev", `driver=file,node-name=f,filename=${path}`],
        ["--nbd-server", `addr.type=unix,addr.path=${socket}`],
        ["--export", "type=nbd,id=e,node-name=f,writable=on"],
      ].flat();
      await whileHeld("qemu-storage-daemon", args, socket, async (pid) => {
        await expect(openFileDevice(path, { writable: true })).rejects.toMatchObject({
          code: "DENIED",
          details: { pid, command: "qemu-storage-daemon" },
        });
      });
    });
  },
);
