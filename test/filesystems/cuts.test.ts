/** A cut after any sector of a new id's writes leaves a file system with the old id or the new one: its own checker finds at most stale copies. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { newFilesystemId } from "#src/filesystems/identify.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { blkid, makeImage, run } from "./support.js";

const MIB = 1 << 20;
const dir = tempDir();

class PowerCut extends Error {}

/** Passes `writes` writes on, each cut into sectors, and fails from then on. */
function cutAfter(device: BlockDevice, writes: number): BlockDevice {
  let left = writes;
  return defineDevice({
    label: device.label,
    size: device.size,
    read: (offset, into) => device.read(offset, into),
    async write(offset, data) {
      for (let at = 0; at < data.length; at += 512) {
        if (left-- <= 0) throw new PowerCut();
        await device.write(offset + at, data.subarray(at, at + 512));
      }
    },
    extents: (offset, length) => device.extents(offset, length),
    flush: () => device.flush(),
  });
}

/** Renews the id with a cut after every number of sectors until it is done; `check` looks at each state. */
async function everyCut(original: string, check: (path: string, uuid: string) => void): Promise<string[]> {
  const path = join(dir, "cut.img");
  const seen: string[] = [];
  for (let writes = 0; ; writes++) {
    copyFileSync(original, path);
    const device = await openFileDevice(path, { writable: true });
    let done = true;
    try {
      await newFilesystemId(cutAfter(device, writes), (size) => new Uint8Array(size).fill(0x5a));
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
      done = false;
    } finally {
      await device.close();
    }
    const { UUID = "" } = blkid(path);
    seen.push(UUID);
    check(path, UUID);
    if (done) return seen;
  }
}

describe.skipIf(!havePeer("blkid", "mkfs.fat", "fsck.fat"))("FAT32", () => {
  test("every cut", async () => {
    const original = makeImage(join(dir, "fat.img"), 34 * MIB, "mkfs.fat", "-F", "32");
    const seen = await everyCut(original, (path) => {
      // A backup that differs from the boot sector is all that a cut may leave; fsck.fat tells it and exits with 1 or 0.
      try {
        run("fsck.fat", "-n", path);
      } catch (error) {
        expect((error as { stdout: string }).stdout).toMatch(/differences between boot sector and its backup/i);
      }
    });
    expect(new Set(seen).size).toBe(2);
  });
});

describe.skipIf(!havePeer("blkid", "mkfs.xfs", "xfs_repair"))("XFS", () => {
  test("every cut", async () => {
    const original = makeImage(join(dir, "xfs.img"), 320 * MIB, "mkfs.xfs", "-q");
    const seen = await everyCut(original, (path) => {
      try {
        run("xfs_repair", "-n", path);
      } catch (error) {
        // Copies in other groups that already have the feature and the id; mounting reads the first only.
        const { stdout, stderr } = error as { stdout: string; stderr: string };
        expect(`${stdout}${stderr}`).toMatch(/would fix incompat feature mismatch in AG [123] super|UUID mismatch/i);
        expect(`${stdout}${stderr}`).not.toMatch(/bad |log.*uuid|ERROR/);
      }
    });
    expect(new Set(seen).size).toBe(2);
  });
});

describe.skipIf(!havePeer("blkid", "mke2fs", "e2fsck"))("ext4", () => {
  test("every cut", async () => {
    const original = makeImage(
      join(dir, "ext4.img"),
      32 * MIB,
      "mke2fs",
      "-q",
      "-F",
      "-t",
      "ext4",
      "-b",
      "1024",
      "-d",
      "src/bytes",
    );
    let torn = 0;
    await everyCut(original, (path) => {
      try {
        run("e2fsck", "-fn", path);
      } catch (error) {
        // The primary is two sectors: a cut between them fails its checksum, and a backup, all of them new by then, is taken.
        torn++;
        expect((error as { stdout: string; stderr: string }).stderr + (error as { stdout: string }).stdout).toMatch(
          /backup|checksum/i,
        );
        repairFromBackup(path);
      }
    });
    expect(torn).toBeLessThanOrEqual(1);
  });
});

/** From a backup e2fsck always counts anew what is in use, so it exits with 1: mended. */
function repairFromBackup(path: string): void {
  try {
    run("e2fsck", "-fy", "-b", "8193", "-B", "1024", path);
  } catch (error) {
    expect((error as { status: number }).status).toBe(1);
  }
  run("e2fsck", "-fn", path);
}
