/** What is told of damage on a raw disk: the table, the metadata of groups, superblocks, also within volumes. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { checkContents } from "#src/stack/check-contents.js";
import { havePeer } from "../support/peers.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";

async function findings(path: string): Promise<string[]> {
  const device = await openFileDevice(path, { writable: false });
  try {
    return (await checkContents(device, path)).map(({ level, where, message }) => `${level} ${where}: ${message}`);
  } finally {
    await device.close();
  }
}

function patch(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, "r+");
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

const MIB = 1 << 20;
const junk = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 167 + 13) & 0xff);

async function guest(world: XvdWorld): Promise<string> {
  const path = world.path("guest.dsk");
  await world.xvd("create", "guest.dsk", "128M");
  await world.xvd("part", "apply", "guest.dsk", ...layout(world, "efi:32M,lvm:*"));
  await world.xvd("vgcreate", "-s", "1m", "vg0", "guest.dsk#p2");
  await world.xvd("lvcreate", "-L", "32M", "-n", "root", "vg0");
  return path;
}

function layout(world: XvdWorld, text: string): string[] {
  writeFileSync(world.path("layout"), text);
  return ["layout"];
}

describe.skipIf(!havePeer("mke2fs"))("a guest's disk", () => {
  test("is clean, and each kind of damage is told where it is", async () => {
    const world = xvdWorld();
    const path = await guest(world);
    const fs = world.path("fs.img");
    writeFileSync(fs, "");
    truncateSync(fs, 32 * MIB);
    execFileSync("mke2fs", ["-q", "-t", "ext4", fs]);
    await world.xvd("convert", "--force", "fs.img", "lvm:vg0/root");
    expect(await findings(path)).toEqual([]);
    const good = readFileSync(path);
    const pv = 33 * MIB;
    const damaged = async (offset: number, bytes: Uint8Array) => {
      writeFileSync(path, good);
      patch(path, offset, bytes);
      return findings(path);
    };
    expect(await damaged(512, junk(512))).toEqual([expect.stringMatching(/^damage disk: .*GPT/i)]);
    expect(await damaged(pv + 600, junk(8))).toEqual([
      expect.stringMatching(/^damage disk: .*label in sector 1.*checksum/),
    ]);
    expect(await damaged(pv + 4096, junk(512))).toEqual([
      expect.stringMatching(/^damage disk: .*checksum/),
      expect.stringMatching(/^damage disk: .*no VG was found/),
    ]);
    expect(await damaged(pv + MIB + 1024 + 0x50, junk(4))).toEqual([
      expect.stringMatching(/^damage vg0\/root: the checksum of the ext4 superblock is wrong/),
    ]);
    expect(await damaged(pv + MIB, new Uint8Array(4096))).toEqual([
      expect.stringMatching(/^damage vg0\/root: the ext superblock is gone, a copy is at block 8193/),
    ]);
    expect(await damaged(pv, junk(4608))).toEqual([
      expect.stringMatching(/^damage p2: there is no label, metadata of VG vg0 .* is left at byte/),
    ]);
    writeFileSync(path, good);
    patch(path, MIB, Buffer.from("XFSB"));
    expect(await findings(path)).toEqual([expect.stringMatching(/^damage p1: there is a XFS signature at byte 0/)]);
  });
});

test("a pool's metadata is checked, and a pool is no file system", async () => {
  const world = xvdWorld();
  const path = world.path("pool.dsk");
  writeFileSync(path, "");
  truncateSync(path, 128 * MIB);
  await world.xvd("vgcreate", "-s", "1m", "vg", "pool.dsk");
  await world.xvd("lvcreate", "--type", "thin", "-L", "32M", "-V", "1G", "--thinpool", "pool", "-n", "thin", "vg");
  await world.xvd("io", "lvm:vg/thin", "-c", "write -P 1 100M 1M");
  expect(await findings(path)).toEqual([]);
  const [{ devices }] = JSON.parse(
    await world.xvd("lvs", "-a", "-o", "devices", "--reportformat", "json", "-S", "lv_name=pool_tmeta", "vg"),
  ).report[0].lv;
  const begin = MIB * (1 + Number(/\((\d+)\)/.exec(devices)![1]));
  patch(path, begin + 400, junk(8));
  expect(await findings(path)).toEqual(
    expect.arrayContaining([expect.stringMatching(/^damage vg: pool vg\/pool: .*(checksum|superblock)/)]),
  );
  expect(await world.run(["vgck", "vg"])).toMatchObject({ code: 1, stderr: expect.stringMatching(/pool vg\/pool/) });
});
