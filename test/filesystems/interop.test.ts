/** Real file systems: told as blkid tells them, and given ids that the systems' own checkers find in order. */
import { copyFileSync, cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { blkid, identify, makeImage, renew, run } from "./support.js";

const MIB = 1 << 20;
const dir = tempDir();

interface Sample {
  readonly name: string;
  readonly size: number;
  readonly make: [string, ...string[]];
  /** Fails, or prints what is wrong, for a damaged file system. */
  check(path: string): void;
  /** Of `what` in the answer. */
  readonly what?: string;
}

const e2fsck = (path: string) => expect(run("e2fsck", "-fn", path)).toContain("Pass 5");
const xfsRepair = (path: string) => run("xfs_repair", "-n", path);
const fsckFat = (path: string) => run("fsck.fat", "-n", path);

const ext = (name: string, size: number, ...args: string[]): Sample => ({
  name,
  size,
  make: ["mke2fs", "-q", "-F", ...args],
  check: e2fsck,
});

const EXT: Sample[] = [
  ext("ext2", 20 * MIB, "-t", "ext2", "-L", "two", "-r", "1"),
  ext("ext2 with a backup in every group", 40 * MIB, "-t", "ext2", "-O", "^sparse_super,^resize_inode"),
  ext("ext3", 40 * MIB, "-t", "ext3", "-L", "sixteen letters!"),
  ext("ext4", 300 * MIB, "-t", "ext4", "-d", "src"),
  ext("ext4 with uninit_bg", 300 * MIB, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"),
  ext(
    "ext4 with uninit_bg and meta_bg",
    300 * MIB,
    "-t",
    "ext4",
    "-b",
    "1024",
    "-O",
    "^metadata_csum,uninit_bg,meta_bg,^resize_inode,64bit",
  ),
  ext("ext4 with sparse_super2", 600 * MIB, "-t", "ext4", "-O", "sparse_super2,^64bit"),
  ext("ext4 with bigalloc and 1 KiB blocks", 300 * MIB, "-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "4096"),
  ext("ext4 with metadata_csum_seed", 64 * MIB, "-t", "ext4", "-O", "metadata_csum_seed"),
];
const FAT: Sample[] = [
  { name: "FAT12", size: 2 * MIB, make: ["mkfs.fat", "-n", "LAB12"], check: fsckFat },
  { name: "FAT16", size: 20 * MIB, make: ["mkfs.fat"], check: fsckFat },
  { name: "FAT32", size: 300 * MIB, make: ["mkfs.fat", "-F", "32", "-n", "TWO WORDS"], check: fsckFat },
  { name: "FAT32 of 4 KiB sectors", size: 300 * MIB, make: ["mkfs.fat", "-F", "32", "-S", "4096"], check: fsckFat },
];
const XFS: Sample[] = [
  { name: "XFS 5", size: 400 * MIB, make: ["mkfs.xfs", "-q", "-L", "twelve chars"], check: xfsRepair },
  { name: "XFS 5 of 4 KiB sectors", size: 400 * MIB, make: ["mkfs.xfs", "-q", "-s", "size=4096"], check: xfsRepair },
  { name: "XFS 4", size: 400 * MIB, make: ["mkfs.xfs", "-q", "-m", "crc=0"], check: xfsRepair },
];
const BTRFS: Sample[] = [
  {
    name: "btrfs",
    size: 200 * MIB,
    make: ["mkfs.btrfs", "-q", "-L", "butter"],
    check: (path) => run("btrfs", "check", path),
  },
  {
    name: "btrfs with SHA-256",
    size: 200 * MIB,
    make: ["mkfs.btrfs", "-q", "--csum", "sha256"],
    check: (path) => run("btrfs", "check", path),
  },
];
const SWAP: Sample[] = [{ name: "swap", size: 8 * MIB, make: ["mkswap", "-L", "swappy"], check: () => {} }];

function judge(title: string, peers: string[], samples: Sample[]): void {
  describe.skipIf(!havePeer("blkid", ...peers))(title, () => {
    test.each(samples)("$name", async ({ name, size, make, check }) => {
      const path = makeImage(join(dir, `${name.replaceAll(" ", "-")}.img`), size, ...make);
      const told = await identify(path);
      const theirs = blkid(path);
      expect(told).toMatchObject({ type: theirs.TYPE, uuid: theirs.UUID, label: theirs.LABEL ?? null });
      if (theirs.VERSION) expect(told?.version).toBe(theirs.VERSION);
      expect(told!.size).toBeLessThanOrEqual(size);
      expect(told!.size).toBeGreaterThan(size * 0.95);

      const change = await renew(path);
      expect(change?.old).toBe(theirs.UUID);
      expect(change?.new).not.toBe(theirs.UUID);
      expect(blkid(path)).toEqual({ ...theirs, UUID: change?.new });
      check(path);
      const again = await renew(path); // from a disk that had a new id already
      expect([again?.old, blkid(path).UUID]).toEqual([change?.new, again?.new]);
      check(path);
    });
  });
}

judge("ext", ["mke2fs", "e2fsck"], EXT);
judge("FAT", ["mkfs.fat", "fsck.fat"], FAT);
judge("XFS", ["mkfs.xfs", "xfs_repair"], XFS);
judge("btrfs", ["mkfs.btrfs", "btrfs"], BTRFS);
judge("swap", ["mkswap"], SWAP);

describe.skipIf(!havePeer("mke2fs", "e2fsck", "dumpe2fs", "debugfs", "tune2fs"))("ext, in detail", () => {
  test("every backup superblock gets the id, with a right checksum", async () => {
    const path = makeImage(
      join(dir, "backups.img"),
      600 * MIB,
      "mke2fs",
      "-q",
      "-F",
      "-t",
      "ext4",
      "-b",
      "1024",
      "-g",
      "8192",
    );
    const change = await renew(path);
    for (const block of [8193, 24577, 40961, 57345, 73729, 204801, 221185, 401409]) {
      const text = run("dumpe2fs", "-h", "-o", `superblock=${block}`, "-o", "blocksize=1024", path);
      expect(text).toContain(`Filesystem UUID:          ${change?.new}`);
    }
  });

  test("tune2fs accepts it, and makes the seed unnecessary", async () => {
    const path = makeImage(join(dir, "tuned.img"), 64 * MIB, "mke2fs", "-q", "-F", "-t", "ext4", "-d", "src/bytes");
    expect((await renew(path))?.note).toContain("metadata_csum_seed");
    run("tune2fs", "-O", "^metadata_csum_seed", path);
    e2fsck(path);
  });

  test("an id is refused, and nothing written, where it cannot be changed", async () => {
    const base = makeImage(join(dir, "base.img"), 16 * MIB, "mke2fs", "-q", "-F", "-t", "ext4");
    const cases: [string, string[], RegExp][] = [
      ["stable", ["tune2fs", "-O", "stable_inodes"], /stable_inodes/],
      ["replay", ["debugfs", "-w", "-R", "feature needs_recovery"], /journal has to be replayed/],
    ];
    for (const [name, [program, ...args], reason] of cases) {
      const path = join(dir, `${name}.img`);
      cpSync(base, path);
      run(program!, ...args, path);
      const before = readFileSync(path);
      await expect(renew(path)).rejects.toMatchObject({ code: "UNSUPPORTED", message: expect.stringMatching(reason) });
      expect(readFileSync(path).equals(before)).toBe(true);
    }
    const wrong = join(dir, "wrong-checksum.img");
    const bytes = readFileSync(base);
    bytes[1024 + 0x78] = 0x41; // the label's first byte
    writeFileSync(wrong, bytes);
    await expect(renew(wrong)).rejects.toMatchObject({ code: "CORRUPT", message: expect.stringContaining("checksum") });
  });
});

describe.skipIf(!havePeer("mkfs.xfs", "xfs_repair", "xfs_db", "xfs_logprint"))("XFS, in detail", () => {
  test("the log names the new id, and xfs_db reads the same from every group", async () => {
    const path = makeImage(join(dir, "groups.img"), 400 * MIB, "mkfs.xfs", "-q");
    const change = await renew(path);
    for (const group of [0, 1, 2, 3]) {
      const text = run("xfs_db", "-r", "-c", `sb ${group}`, "-c", "p uuid meta_uuid crc", path);
      expect(text).toContain(`uuid = ${change?.new}`);
      expect(text).toContain(`meta_uuid = ${change?.old}`);
      expect(text).toMatch(/crc = 0x[0-9a-f]+ \(correct\)/);
    }
    const log = run("xfs_logprint", "-t", path);
    expect(log).toContain("<CLEAN>");
    expect(run("xfs_logprint", path)).toContain(`uuid: ${change?.new}`);
  });

  test("a log that has to be replayed is refused", async () => {
    const clean = makeImage(join(dir, "log.img"), 400 * MIB, "mkfs.xfs", "-q");
    const path = join(dir, "dirty.img");
    copyFileSync(clean, path);
    const [start] = /logstart = (\d+)/
      .exec(run("xfs_db", "-r", "-c", "sb 0", "-c", "p logstart", path))!
      .slice(1)
      .map(Number);
    const [groupBlocks, groupLog] = ["agblocks", "agblklog"].map((field) =>
      Number(run("xfs_db", "-r", "-c", "sb 0", "-c", `p ${field}`, path).split("=")[1]),
    );
    const offset = ((start! >> groupLog!) * groupBlocks! + (start! & ((1 << groupLog!) - 1))) * 4096;
    const bytes = readFileSync(path);
    bytes[offset + 512 + 9] = 0; // no longer the flag of an unmount record
    writeFileSync(path, bytes);
    await expect(renew(path)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("replayed"),
    });
  });
});
