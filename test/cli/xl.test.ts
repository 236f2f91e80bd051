/** xl's words on the command line: domains from a configuration, block-attach, block-detach, block-list. */
import { mkdirSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { createRawDisk } from "../support/raw-disk.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";

interface Device {
  vdev: string;
  number: number;
  access: string;
  state: string;
  disk: string;
  socket: string;
}

async function fails(world: XvdWorld, args: readonly string[]): Promise<{ code: number | null; said: string }> {
  const { code, stdout, stderr } = await world.run(args);
  expect(stdout).toBe("");
  expect(stderr.trim().split("\n")).toHaveLength(1);
  return { code, said: stderr.trim() };
}

describe("a domain from an xl.cfg", () => {
  const world = xvdWorld();
  const cfg = (name: string, text: string) => writeFileSync(world.path(name), text);
  beforeAll(() => {
    mkdirSync(world.path("etc"));
    for (const name of ["d.dsk", "e.dsk", "etc/near.dsk"]) createRawDisk(world.dir, name, 4 << 20);
  });

  test("its disks are attached in order, relative ones from the file's folder", async () => {
    cfg(
      "etc/web1.cfg",
      `name="web1"\nmemory=128 # MiB\nkernel='/boot/k'; vif=['']
disk = [ "format=raw,vdev=xvda,access=rw,target=${world.path("d.dsk")}",
         "${world.path("e.dsk")},raw,xvdb,ro",
         'near.dsk,,xvdq' ]\n`,
    );
    const made = await world.run(["domain", "create", "--config", "etc/web1.cfg", "--json"]);
    expect(made.code).toBe(0);
    expect(made.stderr).toBe("xvd: etc/web1.cfg: ignored, nothing here depends on it: kernel vif\n");
    const { devices } = JSON.parse(made.stdout) as { devices: Device[] };
    expect(devices.map(({ vdev, number, access, state, disk }) => [vdev, number, access, state, disk])).toEqual([
      ["xvda", 51712, "rw", "Connected", world.path("d.dsk")],
      ["xvdb", 51728, "ro", "Connected", world.path("e.dsk")],
      ["xvdq", 268439552, "rw", "Connected", world.path("etc/near.dsk")],
    ]);
    await world.xvd("io", "dom:web1/xvda", "-c", "write -P 0x5e 2M 64k", "-c", "flush", "-c", "read -P 0x5e 2M 64k");
    expect(await fails(world, ["io", "dom:web1/xvdb", "-c", "write 0 4k"])).toMatchObject({
      code: 1,
      said: expect.stringMatching(/read-only/i),
    });
    await world.xvd("domain", "destroy", "web1");
    await world.xvd("io", "d.dsk", "-c", "read -P 0x5e 2M 64k");
  });

  test("from standard input, with the name given", async () => {
    const input = "disk=['d.dsk,,xvda,r']";
    const { code, stdout } = await world.run(["domain", "create", "piped", "--config", "-"], { input });
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(/domain piped runs[\s\S]*\/dev\/xvda .*d\.dsk/),
    });
    await world.xvd("domain", "destroy", "piped");
  });

  test.each([
    [
      "disk=['d.dsk,,xvda','nothere.dsk,,xvdb']",
      1,
      /disk 2 of 2: cannot open .*nothere\.dsk.*; everything is taken back/,
    ],
    [
      "disk=['d.dsk,,xvda','e.dsk,,xvda1']",
      1,
      /disk 2 of 2: cannot attach .*e\.dsk as xvda1: .*d\.dsk is attached as xvda/,
    ],
    ["disk=['d.dsk,,xvda','d.dsk,,xvdb,ro']", 1, /disk 2 of 2: .*in use as xvda of x/],
    ["disk=['d.dsk,,xvda,maybe']", 1, /bad\.cfg: config parsing error in disk specification: unknown value for access/],
    ["disk=['d.dsk,qcow,xvda']", 1, /format is qcow,/],
    ["name='other'", 2, /bad\.cfg names it "other"/],
    ["name=\nmemory=1", 1, /bad\.cfg:1: config parsing error near <newline>: syntax error/],
    ["memory='lots'", 1, /bad\.cfg:1: parameter `memory' is not a valid number/],
    ["disk=['d.dsk,,xvda'", 1, /bad\.cfg:1: config parsing error near the end of the file/],
  ])("%j: nothing is made", async (text, code, message) => {
    cfg("bad.cfg", text);
    expect(await fails(world, ["domain", "create", "x", "--config", "bad.cfg"])).toEqual({
      code,
      said: expect.stringMatching(message),
    });
    const domains = await world.json<{ name: string }[]>("domain", "list");
    expect(domains.map(({ name }) => name).filter((name) => name !== "Domain-0")).toEqual([]);
    await world.xvd("io", "d.dsk", "-c", "write 0 4k"); // not locked
  });

  test("without any name, and without the file", async () => {
    cfg("anonymous.cfg", "memory=64");
    expect(await fails(world, ["domain", "create", "--config", "anonymous.cfg"])).toMatchObject({ code: 2 });
    expect(await fails(world, ["domain", "create"])).toMatchObject({ code: 2, said: expect.stringMatching(/no name/) });
    expect(await fails(world, ["domain", "create", "x", "--config", "none.cfg"])).toEqual({
      code: 1,
      said: expect.stringMatching(/none\.cfg.*no such file/),
    });
  });
});

describe("block-attach, block-list, block-detach", () => {
  const world = xvdWorld();
  let domid: number;
  beforeAll(async () => {
    for (const name of ["a.dsk", "f.dsk", "q.dsk", "with, comma.dsk"]) createRawDisk(world.dir, name, 4 << 20);
    domid = (await world.json<{ domid: number }>("domain", "create", "web1")).domid;
    await world.xvd("block-attach", "web1", "a.dsk,raw,xvda,rw");
  });

  test("one disk of several words, deprecated forms, target= with commas, numbers", async () => {
    const attached = [
      await world.json<Device>("block-attach", "web1", `file:${world.path("f.dsk")},xvdc,w`),
      await world.json<Device>("block-attach", String(domid), "vdev=xvdq", "access=ro", "target=q.dsk"),
      await world.json<Device>("block-attach", "web1", "vdev=0xca30, target=with, comma.dsk"),
    ];
    expect(attached.map(({ vdev, number, access, state }) => [vdev, number, access, state])).toEqual([
      ["xvdc", 51744, "rw", "Connected"],
      ["xvdq", 268439552, "ro", "Connected"],
      ["xvdd", 51760, "rw", "Connected"],
    ]);
    await world.xvd("io", "dom:web1/xvdd", "-c", "write -P 7 0 4k", "-c", "read -P 7 0 4k");
  });

  test("block-list has xl's columns", async () => {
    const lines = (await world.xvd("block-list", "web1", "0")).trimEnd().split("\n");
    expect(lines[0]).toBe("Vdev  BE  handle state evt-ch ring-ref BE-path");
    expect(lines[1]).toMatch(/^51712 0 {3}\d+ +4 {5}\d+ +\d+ +\/local\/domain\/0\/backend\/vbd\/\d+\/51712$/);
    expect(lines).toHaveLength(5);
    const devices = await world.json<{ vdev: string; devid: number; handle: number }[]>("block-list", "web1");
    expect(devices.map(({ devid }) => devid)).toEqual([51712, 51744, 51760, 268439552]);
    expect(devices[0]).toMatchObject({ vdev: "xvda", handle: domid, state: 4, "backend-id": 0 });
  });

  test("one wrong name does not keep the others from being listed", async () => {
    const { code, stdout, stderr } = await world.run(["block-list", "nobody", "web1"]);
    expect(code).toBe(1);
    expect(stdout).toContain("51712");
    expect(stderr).toMatch(/nobody/);
  });

  test("block-detach by name, number and force", async () => {
    await world.xvd("block-detach", "web1", "xvdd");
    const again = await fails(world, ["block-detach", "web1", "xvdd"]);
    expect(again).toEqual({ code: 1, said: "xvd block-detach: Device xvdd not connected." });
    expect((await fails(world, ["block-detach", "web1", "51760"])).said).toContain("Device 51760 not connected.");
    expect((await fails(world, ["block-detach", "web1", "nothing"])).said).toContain("Device nothing not connected.");
    expect((await fails(world, ["block-detach", "nobody", "xvda"])).code).toBe(1);
    await world.xvd("block-detach", "web1", "51744");
    const { socket } = await world.json<Device>("block-attach", "web1", "f.dsk,,xvdc");
    const client = await connectNbd(`nbd+unix:///?socket=${socket}`);
    expect((await fails(world, ["block-detach", "web1", "xvdc"])).said).toMatch(/in use, 1 client is connected/);
    await world.xvd("block-detach", "web1", "d2p0", "--force");
    await client.close();
    await world.xvd("io", "f.dsk", "-c", "write 0 4k");
  });

  test.each([
    [
      "vdev=xvdz,vdev=xvdy,target=f.dsk",
      2,
      /command line: config parsing error in disk specification: vdev respecified: near `xvdy' in/,
    ],
    ["vdev=xvdz,access=maybe,target=f.dsk", 2, /unknown value for access: near `maybe' in/],
    ["vdev=xvdz,access=rw,target=a.dsk", 1, /a\.dsk rw: it is in use as xvda of web1/],
    ["f.dsk,,xvda2", 1, /is attached as xvda in web1/],
    ["f.dsk,,floppy", 1, /Invalid or unsupported virtual disk identifier/],
    ["f.dsk", 2, /no vdev specified in `f\.dsk'/],
    [",,hdc,,cdrom", 1, /Disk vdev=hdc is empty/],
    ["nothere.dsk,,xvdz", 1, /nothere\.dsk.*no such file/],
    ["f.dsk,,xvdz,w,backendtype=tap", 1, /no suitable backend for disk xvdz/],
    ["f.qed,,xvdz", 1, /its name says qed/],
  ])("%s is refused", async (spec, code, message) => {
    expect(await fails(world, ["block-attach", "web1", spec])).toEqual({ code, said: expect.stringMatching(message) });
  });

  test("a domain that is not there, and no daemon", async () => {
    expect((await fails(world, ["block-attach", "nobody", "f.dsk,,xvda"])).said).toMatch(/none of that name/);
    const idle = xvdWorld();
    expect(await fails(idle, ["block-list", "web1"])).toMatchObject({
      code: 1,
      said: expect.stringMatching(/none runs/),
    });
    expect(await fails(idle, ["block-detach", "web1", "xvda"])).toMatchObject({ code: 1 });
  });
});
