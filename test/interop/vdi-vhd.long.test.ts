/** QEMU judges our VDI and VHD images, and we its: sizes on and off its geometries, every subformat, writes of each into the other's. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";
import { xvdWorld } from "../support/xvd.js";
import { qemuImg, sampleDisk } from "./qcow2-support.js";

const MIB = 1 << 20;

/** Without a look at the contents: a fixed VHD says only at its end what it is. */
function qemuIoAs(format: string, path: string, ...commands: string[]): void {
  const args = ["-f", format, ...commands.flatMap((one) => ["-c", one]), path];
  const { status, stdout, stderr } = spawnSync("qemu-io", args, { encoding: "utf8" });
  expect([status, stderr, /verification failed/.test(stdout)]).toEqual([0, "", false]);
}

describe.skipIf(!havePeer("qemu-img", "qemu-io"))("QEMU and we agree", () => {
  const world = xvdWorld();
  const path = (name: string) => world.path(name);

  /** A size of a whole number of blocks, one sector more, and one that no geometry has. */
  describe.each([301 * MIB, 96 * MIB + 512, 64 * MIB])("a disk of %i bytes", (size) => {
    const source = join(tempDir(), "src.dsk");
    writeFileSync(source, sampleDisk(size));

    test.each([
      ["vdi", "vdi", []],
      ["vdi", "vdi", ["-o", "static=on"]],
      ["vhd", "vpc", []],
      ["vhd", "vpc", ["-o", "subformat=fixed"]],
    ] as const)("our %s, read and written as %s, %j", async (ours, theirs, options) => {
      const image = path(`ours-${size}-${options.length}-${options.at(-1) ?? ""}.${ours}`);
      await world.xvd("convert", source, image, ...options);
      qemuImg("compare", "-f", "raw", "-F", theirs, source, image);
      qemuIoAs(theirs, image, "write -P 0x5a 3M 300k", `write -P 0x77 ${size - 512} 512`);
      if (theirs === "vdi") qemuImg("check", "-f", "vdi", image);
      await world.xvd("io", image, "-c", "read -P 0x5a 3M 300k", "-c", `read -P 0x77 ${size - 512} 512`);
      await world.xvd("check", image);
    });

    test.each([
      ["vdi", "vdi", "static=off"],
      ["vdi", "vdi", "static=on"],
      ["vhd", "vpc", "subformat=dynamic"],
      ["vhd", "vpc", "subformat=fixed"],
      ["vhd", "vpc", "subformat=dynamic,force_size=on"],
      ["vhd", "vpc", "subformat=fixed,force_size=on"],
    ])("its %s, made as %s with %s", async (ours, theirs, options) => {
      const image = path(`its-${size}-${options}.${ours}`);
      qemuImg("convert", "-f", "raw", "-O", theirs, "-o", options, source, image);
      await world.xvd("compare", source, image);
      await world.xvd("check", image);
      await world.xvd("io", image, "-c", "write -P 0x5a 3M 300k", "-c", "writez 30M 2M", "-c", "flush");
      qemuIoAs(theirs, image, "read -P 0x5a 3M 300k", "read -P 0 30M 2M");
      if (theirs === "vdi") qemuImg("check", "-f", "vdi", image);
      const { "virtual-size": found } = JSON.parse(qemuImg("info", "--output=json", "-f", theirs, image));
      expect((await world.json<{ "virtual-size": number }>("info", image))["virtual-size"]).toBe(found);
    });
  });

  test("an overlay is read with the image beneath when it is allowed, and committed into it", async () => {
    for (const format of ["vdi", "vhd"]) {
      const base = path(`base.${format}`);
      await world.xvd("create", base, "64M");
      await world.xvd("io", base, "-c", "write -P 1 0 4M");
      const over = path(`over.${format}`);
      await world.xvd("create", over, "-b", `base.${format}`, "-F", format);
      await world.xvd("io", over, "--allow-backing", "-c", "write -P 2 1M 700", "-c", "writez 2M 1M");
      const refused = await world.run(["convert", over, path("no.dsk")]);
      expect(refused.stderr).toMatch(/allowed with --allow-backing/);
      await world.xvd("convert", over, path(`flat-${format}.dsk`), "--allow-backing");
      const flat = readFileSync(path(`flat-${format}.dsk`));
      expect([flat[MIB], flat[MIB + 699], flat[MIB + 700], flat[2 * MIB], flat[3 * MIB]]).toEqual([2, 2, 1, 0, 1]);
      expect(statSync(over).blocks * 512).toBeLessThan(4 * MIB);
      await world.xvd("commit", over, "--allow-backing");
      await world.xvd("compare", base, path(`flat-${format}.dsk`));
      await world.xvd("check", base);
    }
  });
});
