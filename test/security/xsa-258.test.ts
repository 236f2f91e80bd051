/** XSA-258 (CVE-2018-10472): the format of a disk was found by looking into it, and a guest wrote what was looked at. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { xvdWorld } from "../support/xvd.js";

/** A qcow2 header with a backing file: who believes it shows the guest that file. */
function header(backing: string): Buffer {
  const bytes = Buffer.alloc(65536);
  bytes.write("QFI\xfb", "latin1");
  bytes.writeUInt32BE(2, 4);
  bytes.writeBigUInt64BE(512n, 8);
  bytes.writeUInt32BE(backing.length, 16);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(BigInt(16 << 20), 24);
  bytes.write(backing, 512);
  return bytes;
}

test("a guest that writes another format's header over its disk gets the same raw bytes back, attached in any way", async () => {
  const world = xvdWorld();
  writeFileSync(world.path("secret"), Buffer.alloc(1 << 20, "top secret "));
  await world.xvd("create", "a.dsk", "16M");
  const fake = header(world.path("secret"));
  await world.xvd("attach", "a.dsk");
  await world.xvd("io", "dom:0/xvda", "-c", "write -P 0x51 0 64k");
  await world.xvd("detach", "xvda");
  const disk = readFileSync(world.path("a.dsk"));
  fake.copy(disk);
  writeFileSync(world.path("a.dsk"), disk);
  for (const attach of [
    ["attach", "a.dsk", "--vdev", "xvda"],
    ["block-attach", "0", `format=raw,vdev=xvda,target=${world.path("a.dsk")}`],
    ["block-attach", "0", `format=raw,devtype=cdrom,vdev=xvda,target=${world.path("a.dsk")}`],
  ]) {
    await world.xvd(...attach);
    const [device] = await world.json<{ size: number }[]>("list");
    expect(device).toMatchObject({ size: 16 << 20 });
    const { stdout } = await world.run(["io", "dom:0/xvda", "-r", "-c", "read -v 0 512"]);
    expect(stdout).toMatch(/51 46 49 fb|QFI/i);
    expect(stdout).not.toContain("secret ");
    await world.xvd("detach", "xvda");
  }
  const digest = await world.json<{ digest: string }>("checksum", "a.dsk");
  expect(digest.digest).toBeTruthy();
});

test("a file whose name says nothing and whose bytes look like a format is refused until the format is said", async () => {
  const world = xvdWorld();
  writeFileSync(world.path("disk"), Buffer.concat([header("/etc/shadow"), Buffer.alloc(1 << 20)]));
  const { code, stderr } = await world.run(["attach", "disk"]);
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/qcow2/) });
  expect(stderr).not.toMatch(/^ +at /m);
  await world.xvd("block-attach", "0", `format=raw,vdev=xvdb,target=${world.path("disk")}`);
  expect(await world.json("list")).toMatchObject([{ size: 65536 + (1 << 20) }]);
});
