/** Thin volumes before a real kernel: it reads what we wrote, writes by itself, and we read that; thin_check agrees with both. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openFileDevice } from "#src/block/file.js";
import { checkThinMetadata } from "#src/lvm/thin/check.js";
import { disk } from "../lvm/world.js";
import { havePeer } from "../support/peers.js";
import { xvdWorld } from "../support/xvd.js";
import { haveKernel, runInKernel } from "./kernel-uml.js";

const JOB = `
vgchange -ay vg0
for name in t1 s1 es; do sha256sum < /dev/vg0/$name | cut -d' ' -f1 > before.$name; done
dd if=/dev/urandom of=random bs=64k count=40 2>/dev/null
dd if=random of=/dev/vg0/t1 bs=64k seek=100 conv=fsync 2>/dev/null
lvcreate -q -s -n ks vg0/t1; lvcreate -q -V 20M -T vg0/pool -n kt; lvchange -ay -K vg0/ks
dd if=random of=/dev/vg0/kt bs=64k seek=3 conv=fsync 2>/dev/null
blkdiscard -o 8388608 -l 524288 /dev/vg0/s1
lvremove -q -f vg0/es
for name in t1 s1 ks kt; do sha256sum < /dev/vg0/$name | cut -d' ' -f1 > after.$name; done
vgchange -an vg0
vgck vg0
`;

test.skipIf(!haveKernel("lvm", "dmsetup", "blkdiscard") || !havePeer("thin_check"))(
  "a kernel reads and writes our thin volumes, and we read and write its",
  async () => {
    const world = xvdWorld();
    for (const name of ["p0.dsk", "p1.dsk"]) disk(world, name, 200 << 20);
    const io = (volume: string, ...commands: string[]) =>
      world.xvd("io", `lvm:vg0/${volume}`, ...commands.flatMap((command) => ["-c", command]), "-c", "flush");
    await world.xvd("pvcreate", "p0.dsk", "p1.dsk");
    await world.xvd("vgcreate", "-s", "1M", "vg0", "p0.dsk", "p1.dsk");
    await world.xvd("lvcreate", "-L", "8M", "-n", "ext", "vg0");
    await io("ext", "write -P 0x31 0 8M");
    await world.xvd("lvchange", "-p", "r", "vg0/ext");
    await world.xvd("lvcreate", "-L", "64M", "-V", "100M", "-T", "vg0/pool", "-n", "t1");
    await io("t1", "write -P 0x61 8M 4M", "write -P 0x11 0 12k");
    await world.xvd("lvcreate", "-s", "-n", "s1", "-k", "n", "vg0/t1");
    await io("t1", "write -P 0x62 9M 1M", "discard 10M 1M", "write -P 0x63 8388608 512");
    await world.xvd("lvcreate", "-s", "--thinpool", "pool", "-k", "n", "-n", "es", "vg0/ext");
    await io("es", "write -P 0x32 1M 4k");

    const digest = async (volume: string) => {
      const copy = world.path(`${volume}.raw`);
      await world.xvd("convert", "--force", `lvm:vg0/${volume}`, copy);
      return createHash("sha256").update(readFileSync(copy)).digest("hex");
    };
    const ours = await Promise.all(["t1", "s1", "es"].map(digest));
    const folder = world.path(".");
    await runInKernel({ script: JOB, disks: [world.path("p0.dsk"), world.path("p1.dsk")], folder });
    const theirs = (name: string) => readFileSync(world.path(name), "utf8").trim();
    expect(ours).toEqual(["before.t1", "before.s1", "before.es"].map(theirs));
    for (const name of ["t1", "s1", "ks", "kt"]) expect(await digest(name)).toBe(theirs(`after.${name}`));

    // On with what the kernel left: a snapshot of its volume, its origin removed.
    await world.xvd("lvcreate", "-s", "-n", "back", "vg0/kt");
    await world.xvd("lvremove", "-y", "vg0/t1");
    expect(await digest("back")).toBe(theirs("after.kt"));
    await world.xvd("convert", "lvm:vg0/pool_tmeta", "metadata.img");
    execFileSync("thin_check", ["-q", world.path("metadata.img")]);
    const metadata = await openFileDevice(world.path("metadata.img"));
    expect(await checkThinMetadata(metadata)).toMatchObject({ problems: [], devices: 4 });
    await metadata.close();
  },
  120_000,
);
