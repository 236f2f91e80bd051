/** Snapshots of a volume that a guest uses: made, made larger and taken away while it writes. */
import { expect, test } from "vitest";
import { xvdWorld } from "../support/xvd.js";
import { group, rows } from "./world.js";

test("a guest's volume gets snapshots that keep what it had, and loses them again", async () => {
  const world = xvdWorld();
  await group(world, "-s", "1M");
  await world.xvd("lvcreate", "-L", "8M", "-n", "a", "vg0");
  await world.xvd("attach", "lvm:vg0/a", "--kernel", "never");
  const guest = (...commands: string[]) => world.xvd("io", "dom:0/xvda", ...commands.flatMap((each) => ["-c", each]));
  await guest("write -P 0x41 0 8M");
  // The guest writes while the snapshot is made: each half of the volume is all old or, from its first write on, never mixed up.
  const writing = guest(...Array.from({ length: 64 }, (_, i) => `write -P 0x42 ${i * 64}k 64k`));
  await world.xvd("lvcreate", "-s", "-L", "9M", "-n", "one", "vg0/a");
  await writing;
  await guest("read -P 0x42 0 4M", "read -P 0x41 4M 4M", "write -P 0x43 4M 2M");
  await world.xvd("io", "lvm:vg0/one", "-c", "read -P 0x41 4M 4M");
  await world.xvd("lvcreate", "-s", "-L", "2M", "-n", "two", "vg0/a");
  await world.xvd("lvextend", "-L", "9M", "vg0/two");
  await guest("write -P 0x44 0 5M", "read -P 0x44 0 5M");
  await world.xvd(
    "io",
    "lvm:vg0/two",
    "-c",
    "read -P 0x42 0 4M",
    "-c",
    "read -P 0x43 4M 2M",
    "-c",
    "read -P 0x41 6M 2M",
  );
  expect(await world.run(["lvremove", "-y", "vg0/a"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/in use/),
  });
  expect(await world.run(["io", "lvm:vg0/two", "-c", "write 0 4k"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/in use by xvd dom0/),
  });
  await world.xvd("lvrename", "vg0/a", "b");
  await world.xvd("lvremove", "-y", "vg0/one");
  await guest("write -P 0x45 6M 2M", "read -P 0x44 0 5M");
  await world.xvd("io", "lvm:vg0/two", "-c", "read -P 0x41 6M 2M");
  // Who reads the snapshot keeps it.
  await world.xvd("attach", "lvm:vg0/two", "--access", "ro", "--kernel", "never");
  expect(await world.run(["lvremove", "-y", "vg0/two"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/in use/),
  });
  await world.xvd("detach", "xvdb");
  expect(await world.run(["lvconvert", "--merge", "vg0/two"])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/Delaying merge since origin is open/),
  });
  await world.xvd("detach", "xvda");
  await world.xvd("io", "lvm:vg0/b", "-c", "read -P 0x42 0 4M", "-c", "read -P 0x43 4M 2M");
  await world.xvd("lvconvert", "--merge", "vg0/two");
  await world.xvd("io", "lvm:vg0/b", "-c", "read -P 0x42 0 4M", "-c", "read -P 0x43 4M 2M", "-c", "read -P 0x41 6M 2M");
  expect((await rows(world, "lvs", "-a", "vg0")).map(({ lv_name }) => lv_name)).toEqual(["b"]);
});
