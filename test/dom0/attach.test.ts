/** Disks attached through the daemon, as a user sees them. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { libc } from "#src/os/libc.js";
import { xvdWorld } from "../support/xvd.js";

interface Device {
  vdev: string;
  device: string;
  number: number;
  size: number;
  access: string;
  state: string;
  domain: string;
  domid: number;
  partitions: { device: string; number: number; size: number; socket: string }[];
  socket: string;
  "kernel-device": null;
}

function disk(path: string, size = 8 << 20): void {
  writeFileSync(path, "");
  truncateSync(path, size);
}

const nbd = (socket: string) => connectNbd(`nbd+unix:///?socket=${socket}`);

describe("one disk", () => {
  const world = xvdWorld();
  let device: Device;
  beforeAll(async () => {
    disk(world.path("a.dsk"));
    await world.xvd("part", "init", "a.dsk", "gpt");
    await world.xvd("part", "add", "a.dsk", "--size", "2M", "--name", "first");
    device = await world.json<Device>("attach", "a.dsk");
  });

  test("is /dev/xvda of Domain-0, Connected, with its partition", () => {
    expect(device).toMatchObject({
      domain: "Domain-0",
      domid: 0,
      vdev: "xvda",
      device: "/dev/xvda",
      number: 51712,
      size: 8 << 20,
      access: "rw",
      state: "Connected",
      "kernel-device": null,
    });
    expect(device.partitions).toMatchObject([{ device: "/dev/xvda1", number: 1, size: 2 << 20 }]);
    expect(readdirSync(world.path("run/domains/Domain-0/dev")).sort()).toEqual(["xvda", "xvda1"]);
  });

  test("what is written to it is in the file, at the partition's place", async () => {
    const partition = await nbd(device.partitions[0]!.socket);
    await partition.write(4096, new Uint8Array(8192).fill(0xa5));
    await partition.flush();
    await partition.close();
    const bytes = readFileSync(world.path("a.dsk"));
    expect(bytes.subarray((1 << 20) + 4096, (1 << 20) + 12288).every((byte) => byte === 0xa5)).toBe(true);
    expect(bytes[(1 << 20) + 12288]).toBe(0);
  });

  test("io by name, and the list counts it", async () => {
    await world.xvd("io", "dom:0/xvda", "-c", "write -P 0x3c 4M 64k", "-c", "flush", "-c", "read -P 0x3c 4M 64k");
    await world.xvd("io", "dom:Domain-0/xvda1", "-c", "read -P 0xa5 4096 8192");
    const [listed] = await world.json<{ ring: unknown; statistics: { wr_sect: number; f_req: number } }[]>("list");
    expect(listed!.ring).toMatchObject({
      protocol: "x86_64-abi",
      rings: [{ ringRefs: [expect.any(Number)], eventChannel: expect.any(Number) }],
    });
    expect(await world.xvd("list")).toMatch(/ring 0 of 1 page, ring-ref \d+, event-channel \d+, x86_64-abi/);
    expect(listed!.statistics.wr_sect).toBeGreaterThanOrEqual(144);
    expect(listed!.statistics.f_req).toBeGreaterThanOrEqual(2);
  });

  test("the file is locked against others, and cannot be attached twice", async () => {
    const io = await world.run(["io", "a.dsk", "-c", "write 0 4k"]);
    expect(io).toMatchObject({ code: 1 });
    expect(io.stderr).toMatch(/^xvd io: .*in use by xvd dom0 \(pid \d+\)/);
    const attach = await world.run(["attach", "a.dsk", "--access", "ro"]);
    expect(attach.stderr).toMatch(/in use as xvda of Domain-0/);
    expect(await world.run(["attach", "a.dsk", "--vdev", "xvda"])).toMatchObject({ code: 1 });
  });

  test("a partition made by a client gets its socket", async () => {
    await world.xvd("part", "add", "dom:0/xvda", "--size", "1M");
    const socket = world.path("run/domains/Domain-0/dev/xvda2");
    for (let i = 0; i < 100 && !existsSync(socket); i++) await sleep(20);
    const second = await nbd(socket);
    expect(second.size).toBe(1 << 20);
    await second.close();
  });

  test("detach refuses while a client is connected, and forces", async () => {
    const client = await nbd(device.socket);
    const refused = await world.run(["detach", "xvda"]);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toMatch(/in use, 1 client is connected/);
    if (libc()) expect(refused.stderr).toContain(`(pid ${process.pid}), allowed with --force`);
    await world.xvd("detach", "xvda", "--force");
    await expect(client.read(0, new Uint8Array(512))).rejects.toMatchObject({ code: "IO" });
    await client.close();
    expect(readdirSync(world.path("run/domains/Domain-0/dev"))).toEqual([]);
    expect(await world.json("list")).toEqual([]);
  });

  test("a detach by force under a load fails what is under way, and the device can be attached again", async () => {
    const { socket } = await world.json<Device>("attach", "a.dsk", "--vdev", "xvda");
    const client = await nbd(socket);
    const load = Array.from({ length: 32 }, async (_, i) => {
      for (;;) await client.write((2 << 20) + i * 4096, new Uint8Array(4096).fill(i + 1));
    });
    const ended = Promise.allSettled(load);
    await sleep(50);
    await world.xvd("detach", "xvda", "--force");
    for (const { status } of await ended) expect(status).toBe("rejected");
    await client.close();
    expect(await world.json<Device>("attach", "a.dsk", "--vdev", "xvda")).toMatchObject({ state: "Connected" });
    await world.xvd("detach", "xvda");
    await world.xvd("io", "a.dsk", "-c", "read -P 0x3c 4M 64k");
  });
});

test("an image stays sparse through a device: zeros become holes", async () => {
  const world = xvdWorld();
  const blocks = () => statSync(world.path("a.dsk")).blocks;
  disk(world.path("a.dsk"), 64 << 20);
  await world.xvd("attach", "a.dsk");
  await world.xvd("io", "dom:0/xvda", "-c", "writez 0 64M", "-c", "write -P 1 8M 1M", "-c", "flush");
  expect(blocks() * 512).toBeLessThanOrEqual(2 << 20);
  await world.xvd("io", "dom:0/xvda", "-c", "writez 8M 1M", "-c", "flush", "-c", "read -P 0 0 64M");
  expect(blocks() * 512).toBeLessThanOrEqual(1 << 20);
  await world.xvd("detach", "xvda");
});

describe("names of disks and devices", () => {
  const world = xvdWorld();
  beforeAll(async () => {
    for (const name of ["a:b.dsk", "real.dsk", "shared.dsk"]) disk(world.path(name), 1 << 20);
    symlinkSync("real.dsk", world.path("link.dsk"));
    await world.xvd("domain", "create", "w1");
  });

  test("a file whose name looks like a URI, and a link, are found again at detach", async () => {
    await world.xvd("attach", "a:b.dsk");
    await world.xvd("detach", "./a:b.dsk");
    await world.xvd("attach", "link.dsk", "--vdev", "/dev/xvdb");
    await world.xvd("detach", world.path("real.dsk"));
    await world.xvd("attach", "real.dsk");
    await world.xvd("detach", "link.dsk");
  });

  test("a device of one domain attached to another, and both by their dom: names", async () => {
    await world.xvd("attach", "real.dsk");
    const inner = await world.json<Device>("attach", "dom:0/xvda", "--domain", "w1");
    expect(inner).toMatchObject({ domain: "w1", state: "Connected", size: 1 << 20 });
    await world.xvd("io", "dom:w1/xvda", "-c", "write -P 9 64k 64k", "-c", "flush", "-c", "read -P 9 64k 64k");
    expect(readFileSync(world.path("real.dsk"))[65536]).toBe(9);
    await world.xvd("detach", "dom:w1/xvda");
    await world.xvd("detach", "dom:0/xvda");
    await world.xvd("io", "real.dsk", "-c", "read -P 9 64k 64k");
  });

  test("a disk attached more than once is told by its devices", async () => {
    for (let i = 0; i < 2; i++) await world.xvd("attach", "shared.dsk", "--access", "ro");
    const result = await world.run(["detach", "shared.dsk"]);
    expect(result.stderr).toMatch(/it is attached as Domain-0\/xvda, Domain-0\/xvdb, name one of them/);
    await world.xvd("detach", "xvda");
    await world.xvd("detach", "shared.dsk");
  });

  test("sizes that are no whole sectors", async () => {
    disk(world.path("tiny.dsk"), 511);
    disk(world.path("odd.dsk"), 4097);
    expect((await world.run(["attach", "tiny.dsk"])).stderr).toMatch(/511 bytes, allowed is at least one sector/);
    const odd = await world.run(["attach", "odd.dsk"]);
    expect(odd).toMatchObject({ code: 0, stderr: expect.stringMatching(/last byte .*does not fill a sector/) });
    await world.xvd("detach", "odd.dsk");
  });

  test("what an image says of itself does not reach the terminal as it is", async () => {
    await world.xvd("part", "init", "real.dsk", "gpt", "--force");
    await world.xvd("part", "add", "real.dsk", "--size", "20k", "--start", "100k", "--name", "z\u001b[31mq");
    const { stdout } = await world.run(["attach", "real.dsk"]);
    expect(stdout).not.toContain("\u001b");
    expect(stdout).toMatch(/xvda1 .*z.*q/);
    await world.xvd("detach", "real.dsk");
  });
});

describe("domains", () => {
  const world = xvdWorld();

  test("disks of two guests, read-only ones shared, and an end that frees them", async () => {
    disk(world.path("shared.dsk"));
    disk(world.path("own.dsk"));
    const web = await world.json<{ domid: number }>("domain", "create", "web1");
    const db = await world.json<{ domid: number }>("domain", "create", "db1");
    expect(db.domid).toBe(web.domid + 1);
    for (const domain of ["web1", String(db.domid)])
      await world.xvd("attach", "shared.dsk", "--domain", domain, "--access", "ro");
    await world.xvd("attach", "own.dsk", "--domain", "web1", "--vdev", "xvdq");
    const domains = await world.json<{ name: string; devices: Device[] }[]>("domain", "list");
    expect(
      domains.map(({ name, devices }) => [
        name,
        devices.map(({ vdev, number, access, state }) => [vdev, number, access, state]),
      ]),
    ).toEqual([
      ["Domain-0", []],
      [
        "web1",
        [
          ["xvda", 51712, "ro", "Connected"],
          ["xvdq", 268439552, "rw", "Connected"],
        ],
      ],
      ["db1", [["xvda", 51712, "ro", "Connected"]]],
    ]);
    const refused = await world.run(["io", "dom:web1/xvda", "-c", "write 0 4k"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/read-only/i);
    expect((await world.run(["detach", "xvda"])).stderr).toMatch(/attached to web1, db1, choose with --domain/);
    await world.xvd("domain", "destroy", "web1");
    await world.xvd("io", "own.dsk", "-c", "write -P 1 0 4k");
    await world.xvd("io", "dom:db1/xvda", "-c", "read -P 0 0 4k");
    expect(existsSync(world.path("run/domains/web1"))).toBe(false);
    const again = await world.json<{ domid: number }>("domain", "create", "web1");
    expect(again.domid).toBe(db.domid + 1);
  });

  test.each([
    [["domain", "create", "7"], 2, /not digits alone/],
    [["domain", "create", "../etc"], 2, /letters, digits/],
    [["domain", "create", ".."], 2, /letters, digits/],
    [["domain", "create", "db1"], 1, /exists already/],
    [["domain", "destroy", "nobody"], 1, /none of that name/],
    [["domain", "destroy", "0"], 1, /host itself/],
    [["attach", "shared.dsk", "--domain", "nobody"], 1, /none of that name/],
    [["attach", "nothere.dsk"], 1, /nothere\.dsk.*no such file/],
    [["attach", "shared.dsk", "--vdev", "floppy"], 2, /virtual device/],
    [["attach", "shared.dsk", "--access", "maybe"], 2, /rw, ro/],
    [["attach", "shared.dsk", "--kernel", "sometimes"], 2, /auto, always, never/],
    [["attach", "shared.dsk", "--domain", "db1", "--kernel", "always"], 1, /kernel is Domain-0/],
    [["detach", "xvdz"], 1, /no such device/],
    [["list", "--domain", "nobody"], 1, /no such domain/],
  ] as const)("%j ends with %i", async (args, code, message) => {
    const result = await world.run(args);
    expect({ code: result.code, stderr: result.stderr }).toEqual({ code, stderr: expect.stringMatching(message) });
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
  });
});

describe("the daemon", () => {
  test("killed under a write, it loses no flushed byte, and the next start says what it held", async () => {
    const world = xvdWorld();
    disk(world.path("a.dsk"), 64 << 20);
    const device = await world.json<Device>("attach", "a.dsk");
    const { pid } = await world.json<{ pid: number }>("dom0", "status");
    const client = await nbd(device.socket);
    let flushed = 0;
    const writing = (async () => {
      for (let i = 0; i < 16_000; i++) {
        await client.write(i * 4096, new Uint8Array(4096).fill(1 + (i % 255)));
        await client.flush();
        flushed = i + 1;
      }
    })();
    while (flushed < 50) await sleep(5);
    process.kill(pid, "SIGKILL");
    await expect(writing).rejects.toMatchObject({ code: "IO" });
    await client.close();
    const bytes = readFileSync(world.path("a.dsk"));
    for (let i = 0; i < flushed; i++) expect(bytes[i * 4096 + 4095]).toBe(1 + (i % 255));
    await world.xvd("io", "a.dsk", "-c", "read -P 1 0 4096"); // unlocked
    expect(await world.json("list")).toEqual([]); // never what is not there
    const started = await world.run(["dom0", "start"]);
    expect(started.code).toBe(0);
    expect(started.stderr).toContain(`pid ${pid}`);
    expect(started.stderr).toContain(`Domain-0/xvda (${world.path("a.dsk")}, rw)`);
    await world.xvd("attach", "a.dsk");
    await world.stop();
    expect((await world.run(["dom0", "start"])).stderr).toBe(""); // stopped in order: nothing to tell
  });

  test("two starts at once make one daemon", async () => {
    const world = xvdWorld();
    const both = await Promise.all([
      world.json<{ pid: number }>("dom0", "start"),
      world.json<{ pid: number }>("dom0", "start"),
    ]);
    expect(both[0].pid).toBe(both[1].pid);
    const third = await world.run(["dom0", "start", "--foreground"]);
    expect(third).toMatchObject({ code: 1 });
    expect(third.stderr).toMatch(/in use by xvd dom0/);
  });

  test("in the foreground, it ends in order on a signal and leaves nothing", async () => {
    const world = xvdWorld();
    disk(world.path("a.dsk"));
    const abort = new AbortController();
    const running = world.run(["dom0", "start", "--foreground"], { abort: abort.signal, signal: "SIGINT" });
    for (let i = 0; i < 200 && !existsSync(world.path("run/dom0.sock")); i++) await sleep(20);
    await world.xvd("attach", "a.dsk");
    abort.abort();
    expect(await running).toMatchObject({ code: 0, stderr: "" });
    expect(existsSync(world.path("run/dom0.sock"))).toBe(false);
    expect(existsSync(world.path("run/domains"))).toBe(false);
    expect(readdirSync(world.path("home")).filter((name) => name.endsWith(".json"))).toEqual([]);
    await world.xvd("io", "a.dsk", "-c", "write 0 4k");
  });

  test("an attach whose command was interrupted is taken back", async () => {
    const world = xvdWorld();
    disk(world.path("a.dsk"));
    await world.xvd("dom0", "start");
    // As an interrupted command does: the request is sent, and its connection gone before the answer.
    const socket = connect(world.path("run/dom0.sock"));
    const body = JSON.stringify({ disk: world.path("a.dsk") });
    socket.write(`POST /devices HTTP/1.1\r\nhost: dom0\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    for (let i = 0; i < 400 && !existsSync(world.path("run/domains/Domain-0/dev/xvda")); i++) {
      if (i === 2) socket.destroy();
      await sleep(5);
    }
    for (let i = 0; i < 400 && (await world.run(["io", "a.dsk", "-c", "write 0 4k"])).code !== 0; i++) await sleep(20);
    expect(await world.json("list")).toEqual([]);
  });

  test("socket paths that are too long are refused with what to do", async () => {
    const world = xvdWorld();
    const run = world.path(`long-${"x".repeat(60)}`);
    const result = await world.run(["dom0", "start"], { env: { XVD_RUN: run } });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/allowed 107; set XVD_RUN to a shorter path/);
  });

  test("two daemons of one user, each in its XVD_RUN, know nothing of each other", async () => {
    const world = xvdWorld();
    disk(world.path("a.dsk"));
    const other = { env: { XVD_RUN: world.path("other") } };
    await world.xvd("attach", "a.dsk");
    try {
      const started = await world.run(["dom0", "start", "--json"], other);
      expect(started).toMatchObject({ code: 0, stderr: "" });
      expect(JSON.parse(started.stdout)).toMatchObject({ found: null });
    } finally {
      await world.run(["dom0", "stop"], other);
    }
    expect(await world.json("list")).toMatchObject([{ vdev: "xvda", state: "Connected" }]);
    const { pid } = await world.json<{ pid: number }>("dom0", "status");
    process.kill(pid, "SIGKILL");
    while ((await world.run(["io", "a.dsk", "-c", "write 0 4k"])).code !== 0) await sleep(20);
    expect((await world.run(["dom0", "start"])).stderr).toContain(`pid ${pid}`);
  });

  test("a relative XVD_RUN means the same folder for the daemon and for every command", async () => {
    const world = xvdWorld();
    disk(world.path("a.dsk"));
    const relative = { env: { XVD_RUN: "rel/run", XVD_HOME: "rel/home" } };
    expect(await world.run(["attach", "a.dsk"], relative)).toMatchObject({ code: 0 });
    expect(existsSync(world.path("rel/run/dom0.sock"))).toBe(true);
    expect((await world.run(["dom0", "stop", "--json"], relative)).stdout).toContain("true");
  });

  test("a folder that everybody may write to is not used", async () => {
    const world = xvdWorld();
    const open = world.path("open");
    mkdirSync(open);
    chmodSync(open, 0o777);
    const result = await world.run(["dom0", "start"], { env: { XVD_RUN: open } });
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/everybody may write to it/) });
  });

  test("status and stop without one", async () => {
    const world = xvdWorld();
    expect(await world.json("dom0", "status")).toMatchObject({ running: false, pid: null, domains: [] });
    expect(await world.json("dom0", "stop")).toEqual({ stopped: false });
    expect((await world.run(["domain", "destroy", "x"])).stderr).toMatch(/none runs/);
  });
});
