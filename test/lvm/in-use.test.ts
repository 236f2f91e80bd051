/** Volumes and groups that several processes use at once, or that one was killed at. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { XVD, xvdWorld } from "../support/xvd.js";
import { group, names, rows } from "./world.js";

test("a volume in use: others go on beside it, what would take its extents is refused", async () => {
  const world = xvdWorld();
  await group(world);
  for (const name of ["a", "b"]) await world.xvd("lvcreate", "-L", "8M", "-n", name, "vg0");
  await world.xvd("attach", "lvm:vg0/a");
  await world.xvd("attach", "lvm:vg0/b");
  await world.xvd("io", "dom:0/xvda", "-c", "write -P 0x21 0 1M");
  for (const change of [
    ["lvremove", "vg0/a"],
    ["lvreduce", "-L", "-4M", "vg0/a"],
    ["vgremove", "-y", "vg0"],
    ["io", "lvm:vg0/a", "-c", "read 0 1k"],
    ["checksum", "p0.dsk"],
  ])
    expect(await world.run(change), change.join(" ")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/in use by xvd dom0/),
    });
  await world.xvd("lvextend", "-L", "+4M", "vg0/a");
  await world.xvd("lvcreate", "-L", "4M", "-n", "c", "vg0");
  await world.xvd("lvrename", "vg0/b", "b2");
  await world.xvd("detach", "xvda");
  await world.xvd("detach", "xvdb");
  await world.xvd("io", "lvm:vg0/a", "-c", "read -P 0x21 0 1M");
  await world.xvd("lvremove", "vg0/a");
  expect(await names(world)).toEqual(["b2", "c"]);
});

test("changes at the same time wait for each other and all happen", async () => {
  const world = xvdWorld();
  await group(world, "-s", "64k");
  const made = Array.from({ length: 6 }, (_, i) => world.run(["lvcreate", "-l", "2", "-n", `v${i}`, "vg0"]));
  for (const result of await Promise.all(made)) expect(result).toMatchObject({ code: 0, stderr: "" });
  expect(await names(world)).toEqual(["v0", "v1", "v2", "v3", "v4", "v5"]);
  expect((await rows(world, "vgs", "-o", "vg_seqno"))[0]).toEqual({ vg_seqno: "7" });
});

test("a kill at any time leaves a group that is whole", async () => {
  const world = xvdWorld();
  await group(world, "-s", "64k");
  for (let i = 0; i < 5; i++) {
    const child = spawn(process.execPath, [XVD, "lvcreate", "-l", "1", "-n", `k${i}`, "vg0"], {
      cwd: world.dir,
      env: { ...process.env, ...world.env },
    });
    setTimeout(() => child.kill("SIGKILL"), 60 + i * 25);
    await once(child, "close");
    await world.xvd("vgs", "vg0");
  }
  await world.xvd("lvcreate", "-l", "1", "-n", "last", "vg0");
  await world.xvd("vgck", "vg0");
});
