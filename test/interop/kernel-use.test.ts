/** Kernel devices in use: who is named, what is refused, what is left after failures and after a sudden death. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { DeviceNodes } from "#src/kernel/device-nodes.js";
import { KernelDevice } from "#src/kernel/kernel-device.js";
import { removeLeftovers } from "#src/kernel/leftovers.js";
import { built, startNode } from "../support/child.js";
import {
  copyInto,
  expectNothingLeft,
  type KernelPlace,
  kernelPlace,
  kernelTakesDevices,
  loopsOf,
  MiB,
  NOTHING_LEFT,
  output,
  run,
} from "./kernel-support.js";

const able = kernelTakesDevices("mkfs.ext4", "e2fsck", "blockdev", "dd", "mount");

describe.skipIf(!able)("a device in use", () => {
  test("is not taken away while it is mounted; forced, its users get errors", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(place.image("a.dsk", 64 * MiB), {
      partitions: [{ number: 1, offset: MiB, size: 60 * MiB }],
    });
    await run("mkfs.ext4", ["-q", `${kernel.path}1`]);
    const point = await place.mount(`${kernel.path}1`);
    expect(kernel.users()).toEqual([`${kernel.path}1 is mounted on ${point}`]);
    await expect(kernel.close()).rejects.toThrow(
      `Cannot detach ${kernel.path}: it is in use, ${kernel.path}1 is mounted on ${point}`,
    );
    await copyInto(join(point, "still"), "there"); // nothing has changed
    await kernel.close({ force: true });
    expect(place.left().nodes).toEqual([]);
    await expect(
      run("dd", ["if=/dev/zero", `of=${join(point, "lost")}`, "bs=4K", "count=1", "conv=fsync"]),
    ).rejects.toThrow(/rror|Read-only/);
    await run("umount", ["-l", point]);
    await expect.poll(() => loopsOf(place.owner)).toEqual([]); // the last user has gone
  });

  test("is not taken away while a program has it open, which is named", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(place.image("a.dsk", 16 * MiB));
    const holder = spawn("sh", ["-c", `exec sleep 1000 < ${kernel.path}`]);
    await expect.poll(() => kernel.users()).toEqual([`sleep (pid ${holder.pid}) has ${kernel.path} open`]);
    await expect(kernel.close()).rejects.toThrow(`it is in use, sleep (pid ${holder.pid}) has ${kernel.path} open`);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    await kernel.close();
    await expectNothingLeft(place);
  });

  test("its partitions change when they are not in use", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(place.image("a.dsk", 64 * MiB), {
      partitions: [
        { number: 1, offset: MiB, size: 8 * MiB },
        { number: 2, offset: 16 * MiB, size: 32 * MiB }, // extended: holds 5 and 6
        { number: 5, offset: 17 * MiB, size: 8 * MiB },
        { number: 6, offset: 32 * MiB, size: 8 * MiB },
      ],
    });
    expect([...kernel.partitions.keys()]).toEqual([1, 2, 5, 6]);
    expect(await output("blockdev", "--getsize64", `${kernel.path}2`)).toBe("1024");
    const holder = spawn("sh", ["-c", `exec sleep 1000 < ${kernel.path}5`]);
    await expect.poll(() => kernel.users()).toHaveLength(1);
    await kernel.setPartitions([
      { number: 1, offset: MiB, size: 9 * MiB },
      { number: 3, offset: 50 * MiB, size: 4 * MiB },
      { number: 16, offset: 60 * MiB, size: MiB }, // one that no xvd disk has
    ]);
    expect([...kernel.partitions.keys()].sort()).toEqual([1, 3, 5]);
    expect(place.messages).toEqual([`${kernel.path}5 is in use and keeps its old place`]);
    expect(await output("blockdev", "--getsize64", `${kernel.path}1`)).toBe(String(9 * MiB));
    expect(readdirSync(place.folder).sort()).toEqual(["xvda", "xvda1", "xvda3", "xvda5"]);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    await kernel.close();
    await expectNothingLeft(place);
  });

  test("is gone at once when its loop device is cleared by another program, and whatever has its number then is left alone", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(place.image("a.dsk", 16 * MiB), {
      partitions: [{ number: 1, offset: MiB, size: 8 * MiB }],
    });
    const [loop] = loopsOf(place.owner);
    await run("losetup", ["-d", `/dev/${loop}`]);
    await expect.poll(() => place.lost).toBe(1);
    await expect.poll(() => place.left()).toEqual(NOTHING_LEFT);
    expect(place.messages).toEqual([
      `${kernel.path} has gone: its loop device /dev/${loop} was cleared by another program`,
    ]);
    expect(kernel.users()).toEqual([]);
    const other = place.image("other.dsk", 16 * MiB);
    await run("losetup", [`/dev/${loop}`, other]).catch(() => {}); // another test may have it by now
    try {
      await kernel.close({ force: true });
      await kernel.setPartitions([]);
      expect(place.lost).toBe(1);
      const file = readFileSync(`/sys/block/${loop}/loop/backing_file`, "utf8").trim();
      expect(file).not.toContain(place.owner);
    } finally {
      if (loopsOf("other.dsk").includes(loop!)) await run("losetup", ["-d", `/dev/${loop}`]);
    }
  });

  test("tells when a writer has closed the whole disk, for its partition table", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(place.image("a.dsk", 16 * MiB));
    await run("dd", [`if=${kernel.path}`, "of=/dev/null", "count=1"]);
    await run("dd", ["if=/dev/zero", `of=${kernel.path}`, "bs=4K", "count=1"]);
    await expect.poll(() => place.writersClosed).toBe(1);
  });

  test("two disks at once, and the same loop devices again", async () => {
    const place = kernelPlace();
    const [a, b] = await Promise.all([
      place.serve(place.image("a.dsk", 16 * MiB)),
      place.serve(place.image("b.dsk", 16 * MiB), { name: "xvdb" }),
    ]);
    await Promise.all([
      run("dd", ["if=/dev/urandom", `of=${a!.path}`, "bs=1M", "count=16", "oflag=direct"]),
      run("dd", ["if=/dev/urandom", `of=${b!.path}`, "bs=1M", "count=16", "oflag=direct"]),
    ]);
    await Promise.all([a!.close(), b!.close(), a!.close()]);
    await expectNothingLeft(place);
    await (await place.serve(place.image("c.dsk", 16 * MiB))).close();
    await expectNothingLeft(place);
  });
});

describe.skipIf(!able)("failures leave nothing", () => {
  const device = (place: KernelPlace) => place.image("a.dsk", 16 * MiB);

  test.each(["xvda", "xvda15"])("%s is there already, and is not ours", async (name) => {
    const place = kernelPlace();
    const path = join(place.folder, name);
    writeFileSync(path, "somebody's");
    await expect(place.serve(device(place))).rejects.toThrow(`Cannot make "${path}": it exists already`);
    expect(place.left()).toEqual({ ...NOTHING_LEFT, nodes: [name] });
    expect(readFileSync(path, "utf8")).toBe("somebody's");
  });

  test("nodes cannot be made", async () => {
    const place = kernelPlace();
    await expect(place.serve(device(place), { folder: join(place.dir, "none") })).rejects.toThrow("Cannot make");
    await expectNothingLeft(place);
    expect(place.nodes.all).toEqual([]);
  });

  test("a partition that the kernel does not take", async () => {
    const place = kernelPlace();
    const partitions = [
      { number: 1, offset: MiB, size: 4 * MiB },
      { number: 2, offset: 3 * MiB, size: 4 * MiB },
    ];
    await expect(place.serve(device(place), { partitions })).rejects.toThrow("Cannot add partition 2");
    await expectNothingLeft(place);
    expect(place.nodes.all).toEqual([]);
  });

  test("a disk whose every read fails can be attached, answers errors and goes again", async () => {
    const place = kernelPlace();
    const broken = {
      ...{ label: "broken", size: 16 * MiB, blockSize: 512, writable: true },
      read: () => Promise.reject(new Error("broken")),
      write: () => Promise.reject(new Error("broken")),
      zero: () => Promise.reject(new Error("broken")),
      discard: () => Promise.reject(new Error("broken")),
      extents: () => {
        throw new Error("broken");
      },
      flush: () => Promise.reject(new Error("broken")),
      close: () => Promise.resolve(),
    };
    const kernel = await place.serve("", { device: broken });
    await expect(run("dd", [`if=${kernel.path}`, "of=/dev/null", "bs=4K", "count=1"])).rejects.toThrow(/rror/);
    await kernel.close();
    await expectNothingLeft(place);
  });

  test("a record tells of a node that is another device by now: that stays", async () => {
    const place = kernelPlace();
    const kernel = await place.serve(device(place));
    const other = join(place.folder, "other");
    await run("mknod", [other, "b", "7", "200"]);
    writeFileSync(
      join(place.dir, "record.json"),
      JSON.stringify({ nodes: [{ path: other, device: "7:201" }, { path: 5 }] }),
    );
    expect(await removeLeftovers("nobody", join(place.dir, "record.json"))).toEqual([`removed ${other}`]);
    expect(statSync(other).isBlockDevice()).toBe(true);
    await kernel.close();
  });
});

describe.skipIf(!able)("a program that dies", () => {
  const server = (place: KernelPlace, image: string) => `
    const { openFileDevice } = await import(${built("block/file.js")});
    const { KernelDevice } = await import(${built("kernel/kernel-device.js")});
    const { DeviceNodes } = await import(${built("kernel/device-nodes.js")});
    const { SessionRunner } = await import(${built("kernel/session-runner.js")});
    const kernel = await KernelDevice.open({
      device: await openFileDevice(${JSON.stringify(image)}, { writable: true }),
      name: "xvda", folder: ${JSON.stringify(place.folder)}, owner: ${JSON.stringify(place.owner)},
      nodes: new DeviceNodes(${JSON.stringify(place.recordFile)}), runner: new SessionRunner(),
      partitions: [{ number: 1, offset: 1 << 20, size: 320 << 20 }], onWriterClosed() {}, onLost() {}, onError: console.error,
    });
    console.log(kernel.path);
    setInterval(() => {}, 1000);`;

  const checks = [
    ["ext4", "e2fsck", ["-fn"]],
    ["xfs", "xfs_repair", ["-n"]],
  ] as const;
  const possible = checks.filter(([type, check]) => kernelTakesDevices(`mkfs.${type}`, check));

  test.each(possible)("under load: errors, then a clean-up, and %s is whole again", async (type, check, args) => {
    const place = kernelPlace();
    const image = place.image("a.dsk", 330 * MiB);
    const child = startNode(server(place, image));
    const path = await child.line();
    await run(`mkfs.${type}`, ["-q", `${path}1`]);
    const point = await place.mount(`${path}1`);
    await copyInto(join(point, "kept"), "flushed before");
    await run("sync", ["-f", point]);
    const before = statSync(image).blocks * 512;
    const load = run("dd", ["if=/dev/urandom", `of=${join(point, "load")}`, "bs=64K", "count=1500", "oflag=dsync"]);
    load.catch(() => {});
    await expect.poll(() => statSync(image).blocks * 512, { timeout: 20_000 }).toBeGreaterThan(before + MiB);
    await child.end("SIGKILL");
    await expect(load).rejects.toThrow(/rror|Read-only/);
    await expect(run("dd", [`if=${path}`, "of=/dev/null", "bs=4K", "count=1", "iflag=direct"])).rejects.toThrow(/rror/);

    const told = await removeLeftovers(place.owner, place.recordFile); // mounted still
    expect(told).toEqual([`removed ${path}`, `removed ${path}1`, expect.stringMatching(/goes with its last user$/)]);
    await run("umount", ["-l", point]);
    await expect.poll(() => loopsOf(place.owner)).toEqual([]);

    const again = await place.serve(image, { partitions: [{ number: 1, offset: MiB, size: 320 * MiB }] });
    const mounted = await place.mount(`${path}1`);
    expect(await output("cat", join(mounted, "kept"))).toBe("flushed before");
    await place.unmount(mounted);
    await run(check, [...args, `${path}1`]);
    await again.close();
    expect(readdirSync(place.folder)).toEqual([]);
  });

  test("idle: the next start finds and clears all of it", async () => {
    const place = kernelPlace();
    const child = startNode(server(place, place.image("a.dsk", 330 * MiB)));
    const path = await child.line();
    await child.end("SIGKILL");
    const [loop] = loopsOf(place.owner);
    expect(new DeviceNodes(place.recordFile).all.map((node) => node.path)).toEqual([path, `${path}1`]);
    expect(await removeLeftovers(place.owner, place.recordFile)).toEqual([
      ...[`removed ${path}`, `removed ${path}1`, `cleared /dev/${loop}`],
    ]);
    await expectNothingLeft(place);
    expect(await removeLeftovers(place.owner, place.recordFile)).toEqual([]);
  });
});

test.skipIf(able)("what is missing is told", async () => {
  const place = join("/nonexistent", "nodes.json");
  const options = {
    name: "xvda",
    owner: "x",
    nodes: new DeviceNodes(place),
    partitions: [],
    onWriterClosed() {},
    onLost() {},
  };
  const device = { label: "x", size: 512, blockSize: 512, writable: true } as never;
  const runner = { add() {}, remove() {}, wake() {} };
  await expect(KernelDevice.open({ ...options, device, runner, onError() {} })).rejects.toThrow(
    /^Cannot make \/dev\/xvda: /,
  );
});
