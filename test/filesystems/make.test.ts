/** New file systems through the systems' tools: on any device, without a trace when they fail. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { copyDevice } from "#src/block/copy.js";
import { type BlockDevice, defineDevice } from "#src/block/device.js";
import { openFileDevice } from "#src/block/file.js";
import { memoryDevice } from "#src/block/memory.js";
import { identifyFilesystem } from "#src/filesystems/identify.js";
import { checkMake, makeFilesystem } from "#src/filesystems/make.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { run } from "./support.js";

const MIB = 1 << 20;
const scratch = tempDir();

/** The device's bytes as a file for the tools. */
async function asFile(device: BlockDevice, name: string): Promise<string> {
  const path = join(scratch, name);
  writeFileSync(path, "");
  const file = await openFileDevice(path, { writable: true });
  await file.resize(device.size);
  await copyDevice(device, file);
  await file.close();
  return path;
}

describe("before anything runs", () => {
  test("unknown types, fillings and labels are refused", () => {
    expect(() => checkMake("reiserfs")).toThrow(/reiserfs.*allowed ext2 ext3 ext4 vfat xfs swap btrfs/);
    expect(() => checkMake("toString")).toThrow(/not known/);
    expect(() => checkMake("vfat", { from: scratch })).toThrow(/allowed ext2 ext3 ext4 btrfs/);
    expect(() => checkMake("ext4", { from: join(scratch, "nothing") })).toThrow(/no such folder/);
    expect(() => checkMake("ext4", { label: "seventeen letters" })).toThrow(/17 bytes, allowed up to 16/);
    checkMake("ext4", { label: "sixteen letters!", from: scratch });
  });

  test("a read-only device is refused", async () => {
    await expect(makeFilesystem(memoryDevice(MIB, { writable: false }), "ext4", { scratch })).rejects.toMatchObject({
      code: "READ_ONLY",
    });
  });
});

describe.skipIf(!havePeer("mke2fs", "e2fsck", "debugfs"))("ext", () => {
  test.each(["ext2", "ext3", "ext4"])("%s with files, over old contents, on 4 KiB blocks", async (type) => {
    const bytes = new Uint8Array(24 * MIB).fill(0xee);
    const device = memoryDevice(bytes, { blockSize: 4096 });
    const made = await makeFilesystem(device, type, { label: "data", from: "src/bytes", scratch, sectorSize: 4096 });
    expect(made).toMatchObject({ type, label: "data", blockSize: 4096 });
    expect(await identifyFilesystem(device)).toEqual(made);
    const path = await asFile(device, `${type}.img`);
    run("e2fsck", "-fn", path);
    expect(run("debugfs", "-R", "ls -p /", path)).toContain("/layout.ts/");
    expect(bytes.indexOf(0xee, 20 * MIB)).toBe(-1); // free space reads as zeros, as the tool left it
  });
});

describe.skipIf(!havePeer("mkfs.fat", "fsck.fat"))("vfat", () => {
  test("knows where its partition begins", async () => {
    const device = memoryDevice(4 * MIB);
    await makeFilesystem(device, "vfat", { label: "EFI", partitionOffset: 3 * MIB, scratch });
    const boot = new Uint8Array(512);
    await device.read(0, boot);
    expect(new DataView(boot.buffer).getUint32(28, true)).toBe((3 * MIB) / 512);
    run("fsck.fat", "-n", await asFile(device, "fat.img"));
  });
});

describe.skipIf(!havePeer("mkswap", "mkfs.btrfs", "btrfs"))("swap and btrfs", () => {
  test("are made", async () => {
    expect(await makeFilesystem(memoryDevice(2 * MIB), "swap", { label: "swp", scratch })).toMatchObject({
      type: "swap",
      label: "swp",
    });
    const device = memoryDevice(120 * MIB);
    await makeFilesystem(device, "btrfs", { label: "b", from: "src/bytes", scratch });
    expect(run("btrfs", "check", await asFile(device, "btrfs.img"))).toContain("found");
  });
});

describe.skipIf(!havePeer("mke2fs"))("failure", () => {
  test("a refusing tool leaves the device and the scratch folder as they were", async () => {
    const folder = tempDir();
    const device = memoryDevice(new Uint8Array(16384).fill(1));
    await expect(makeFilesystem(device, "ext4", { scratch: folder })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining("mke2fs refused"),
    });
    expect(readdirSync(folder)).toEqual([]);
    const bytes = new Uint8Array(16384);
    await device.read(0, bytes);
    expect(bytes.every((byte) => byte === 1)).toBe(true);
  });

  test("an abort before the tool is done leaves the device as it was", async () => {
    const folder = tempDir();
    let written = 0;
    const device = defineDevice({
      label: "watched",
      size: 64 * MIB,
      read: async (_, into) => void into.fill(0),
      write: async () => void written++,
    });
    const stopping = new AbortController();
    const making = makeFilesystem(device, "ext4", { scratch: folder, signal: stopping.signal });
    stopping.abort(new Error("enough"));
    await expect(making).rejects.toThrow();
    expect([written, readdirSync(folder)]).toEqual([0, []]);
  });

  test("a cut while the device is written leaves no file system rather than the half of one", async () => {
    const original = memoryDevice(8 * MIB);
    await makeFilesystem(original, "ext2", { label: "old", scratch });
    for (const allowed of [1, 2, 3, 5, 8]) {
      const bytes = new Uint8Array(8 * MIB);
      await original.read(0, bytes);
      const memory = memoryDevice(bytes);
      let left = allowed;
      const spend = async (work: () => Promise<void>) => {
        if (left-- <= 0) throw new Error("power cut");
        await work();
      };
      const device = defineDevice({
        label: "cut",
        size: memory.size,
        read: (offset, into) => memory.read(offset, into),
        write: (offset, data) => spend(() => memory.write(offset, data)),
        zero: (offset, length) => spend(() => memory.zero(offset, length)),
      });
      const made = await makeFilesystem(device, "ext2", { label: "new", scratch }).catch(() => null);
      const label = (await identifyFilesystem(memory))?.label ?? null;
      expect(made ? ["new"] : [null, "new"]).toContain(label);
    }
  });
});
