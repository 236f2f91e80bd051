/** Domains as a whole, by command: what a user types, reads and interrupts. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { createRawDisk } from "../support/raw-disk.js";
import { xvdWorld } from "../support/xvd.js";

interface Domain {
  name: string;
  domid: number;
  state: string;
}

describe("one host", () => {
  const world = xvdWorld();
  const states = async () =>
    Object.fromEntries((await world.json<Domain[]>("domain", "list")).map(({ name, state }) => [name, state]));
  beforeAll(async () => {
    createRawDisk(world.dir, "d.dsk", 8 << 20);
    await world.xvd("domain", "create", "web1");
    await world.xvd("attach", "d.dsk", "--domain", "web1");
  });

  test("pause and unpause; lists answer meanwhile", async () => {
    expect(await world.json("domain", "pause", "web1")).toEqual({ paused: "web1" });
    expect(await states()).toMatchObject({ web1: "paused" });
    expect(await world.xvd("list")).toMatch(/\/dev\/xvda .*Connected +web1/);
    const refused = await world.run(["domain", "save", "web1", "x.sav"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: "xvd domain save: cannot save domain web1: it is paused, allowed after 'xvd domain unpause'\n",
    });
    expect(existsSync(world.path("x.sav"))).toBe(false);
    expect(await world.xvd("domain", "unpause", "web1")).toBe("domain web1 runs\n");
    expect(await states()).toMatchObject({ web1: "running" });
  });

  test("save and restore by relative names, and the disk is free in between", async () => {
    await world.xvd("io", "dom:web1/xvda", "-c", "write -P 3 1M 1M");
    expect(await world.json("domain", "save", "web1", "web1.sav")).toMatchObject({
      domain: "web1",
      file: "web1.sav",
      size: statSync(world.path("web1.sav")).size,
      running: false,
      outstanding: 0,
    });
    expect(await states()).toEqual({ "Domain-0": "running" });
    await world.xvd("io", "d.dsk", "-c", "read -P 3 1M 1M");
    const before = readFileSync(world.path("web1.sav"));
    expect(await world.json("domain", "restore", "web1.sav", "--paused")).toMatchObject({
      name: "web1",
      state: "paused",
      devices: [{ vdev: "xvda", state: "Connected" }],
    });
    await world.xvd("domain", "unpause", "web1");
    await world.xvd("io", "dom:web1/xvda", "-c", "read -P 3 1M 1M", "-c", "write -P 4 2M 1M");
    expect(readFileSync(world.path("web1.sav")).equals(before)).toBe(true);
    const refused = await world.run(["domain", "restore", "d.dsk"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/cannot restore ".*d.dsk": it does not begin with XVDSAVED/),
    });
  });

  test("reboot, then shutdown; the disk is free and whole", async () => {
    expect(await world.xvd("domain", "shutdown", "web1", "--reboot")).toBe("domain web1 has started again\n");
    await world.xvd("io", "dom:web1/xvda", "-c", "read -P 4 2M 1M");
    expect(await world.json("domain", "shutdown", "web1")).toEqual({ shutdown: "web1" });
    expect(await states()).toEqual({ "Domain-0": "running" });
    await world.xvd("io", "d.dsk", "-c", "read -P 4 2M 1M");
  });

  test.each(["pause", "unpause", "shutdown", "destroy"])("domain %s of nobody ends with 1", async (verb) => {
    expect(await world.run(["domain", verb, "nobody"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/domain nobody: there is/),
    });
  });
});

describe("two hosts", () => {
  const here = xvdWorld();
  const there = xvdWorld();
  const home = there.env.XVD_HOME!;

  test("a domain moves with its disk, and its client stays", async () => {
    createRawDisk(here.dir, "d.dsk", 32 << 20);
    await here.xvd("domain", "create", "web1");
    await here.xvd("attach", "d.dsk", "--domain", "web1");
    const client = await connectNbd(`nbd+unix:///?socket=${here.env.XVD_RUN}/domains/web1/dev/xvda`);
    await client.write(0, Buffer.alloc(1 << 20, 7));
    expect(await here.run(["domain", "migrate", "web1", "--to", home])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/none runs there/),
    });
    await there.xvd("dom0", "start");
    const result = await here.json("domain", "migrate", "web1", "--to", home, "--with-disks");
    expect(result).toMatchObject({
      domain: "web1",
      home,
      connections: 1,
      disks: [{ vdev: "xvda", from: here.path("d.dsk"), to: `${home}/images/d.dsk`, copied: true }],
    });
    expect((await here.json<Domain[]>("domain", "list")).map(({ name }) => name)).toEqual(["Domain-0"]);
    expect((await there.json<Domain[]>("domain", "list")).map(({ name }) => name)).toEqual(["Domain-0", "web1"]);
    await client.write(1 << 20, Buffer.alloc(1 << 20, 8));
    await client.close();
    await there.xvd("io", "dom:web1/xvda", "-c", "read -P 7 0 1M", "-c", "read -P 8 1M 1M");
    await here.xvd("io", "d.dsk", "-c", "read -P 7 0 1M", "-c", "read -P 0 1M 1M");
  });
});
