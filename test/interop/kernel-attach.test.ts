/** `xvd attach --kernel always`: a file system on /dev/xvdX1, through the ring, over a repartitioning and a killed daemon. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { xvdWorld } from "../support/xvd.js";
import { kernelTakesDevices, loopsOf, output, run } from "./kernel-support.js";

interface Attached {
  "kernel-device": string;
  statistics: Record<string, number>;
}

/** Letters that no other test, and no machine, has. */
const VDEV = "xvdkq";
const NODE = `/dev/${VDEV}`;

describe.skipIf(!kernelTakesDevices("mkfs.ext4", "e2fsck", "blockdev", "sfdisk", "mount"))(
  "attached for the kernel, too",
  () => {
    const world = xvdWorld();
    const attach = () => world.json<Attached>("attach", "a.dsk", "--kernel", "always", "--vdev", VDEV);
    const point = world.path("mnt");

    afterEach(async () => {
      await run("umount", ["-l", point]).catch(() => {});
      await world.run(["detach", VDEV, "--force"]);
      if (existsSync(NODE)) await world.run(["dom0", "start"]); // a test that failed after it had killed the daemon
    });

    test("mounted, refused, detached; killed, and cleaned up by the next start", async () => {
      mkdirSync(point);
      await world.xvd("create", "a.dsk", "128M");
      await world.xvd("part", "init", "a.dsk", "gpt");
      await world.xvd("part", "add", "a.dsk", "--size", "64M");
      expect((await attach())["kernel-device"]).toBe(NODE);
      await run("mkfs.ext4", ["-q", `${NODE}1`]);
      await run("mount", [`${NODE}1`, point]);
      await run("cp", ["/etc/passwd", `${point}/kept`]);
      expect(await world.run(["detach", VDEV])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`cannot detach ${NODE}: it is in use, ${NODE}1 is mounted on ${point}`),
      });
      expect(await world.run(["dom0", "stop"])).toMatchObject({
        code: 1,
        stderr: `xvd dom0 stop: cannot stop Dom0: devices are in use, ${NODE}1 is mounted on ${point}, allowed with --force\n`,
      });
      await world.xvd("resize", `dom:0/${VDEV}`, "192M");
      await world.xvd("part", "resize", `dom:0/${VDEV}`, "1", "96M");
      await expect.poll(() => output("blockdev", "--getsize64", `${NODE}1`)).toMatch(new RegExp(`^${96 << 20}\\s*$`));
      await run("sh", ["-c", `echo ,16M | sfdisk -q --no-reread --no-tell-kernel --append ${NODE}`]);
      await expect.poll(() => existsSync(`${NODE}2`)).toBe(true);
      await run("sync", ["-f", point]);

      const { pid } = await world.json<{ pid: number }>("dom0", "status");
      process.kill(pid, "SIGKILL");
      await expect
        .poll(() =>
          run("dd", [`if=${NODE}`, "of=/dev/null", "count=1", "iflag=direct"]).then(
            () => true,
            () => false,
          ),
        )
        .toBe(false);
      await run("umount", ["-l", point]);
      expect(loopsOf(VDEV)).toHaveLength(1);
      await world.xvd("dom0", "start");
      expect([existsSync(NODE), existsSync(`${NODE}1`), existsSync(`${NODE}2`)]).toEqual([false, false, false]);
      await expect.poll(() => loopsOf(VDEV)).toEqual([]);

      await attach();
      await run("mount", [`${NODE}1`, point]);
      expect(await output("cmp", "/etc/passwd", `${point}/kept`)).toBe("");
      await run("umount", [point]);
      await run("e2fsck", ["-fn", `${NODE}1`]);
      await world.xvd("detach", VDEV);
      expect(existsSync(NODE)).toBe(false);
      await expect.poll(() => loopsOf(VDEV)).toEqual([]);
    });

    test("partitions that somebody uses are not taken away, moved or cut; the others are", async () => {
      mkdirSync(point, { recursive: true });
      await world.xvd("create", "c.dsk", "128M");
      await world.xvd("part", "init", "c.dsk", "gpt");
      for (const size of ["16M", "40M", "16M"]) await world.xvd("part", "add", "c.dsk", "--size", size);
      await world.xvd("attach", "c.dsk", "--kernel", "always", "--vdev", VDEV);
      await run("mkfs.ext4", ["-q", `${NODE}2`]);
      await run("mount", [`${NODE}2`, point]);
      const client = await connectNbd(`nbd+unix:///?socket=${world.path(`run/domains/Domain-0/dev/${VDEV}3`)}`);
      const disk = `dom:0/${VDEV}`;
      const mounted = `it is in use, ${NODE}2 is mounted on ${point}\n`;
      for (const [who, ...change] of [
        [mounted, "part", "rm", disk, "2"],
        [mounted, "part", "resize", disk, "2", "8M", "--force"],
        [mounted, "part", "move", disk, "2", "--start", "80M", "--journal", world.path("move")],
        [mounted, "part", "init", disk, "mbr", "--force"],
        [mounted, "mkfs", `${disk}2`, "ext4", "--force"],
        [` (pid ${process.pid}) is connected to ${NODE}3\n`, "part", "rm", disk, "3"],
      ] as const)
        expect(await world.run(change), change.join(" ")).toMatchObject({
          code: 1,
          stderr: expect.stringContaining(who),
        });
      expect(await world.run(["part", "rm", NODE, "2", "-f", "raw"])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`cannot open "${NODE}" for writing: it is in use by the kernel (mounted`),
      });
      await world.xvd("part", "rm", disk, "1");
      await expect.poll(() => existsSync(`${NODE}1`)).toBe(false);
      expect([existsSync(`${NODE}2`), existsSync(`${NODE}3`)]).toEqual([true, true]);
      await client.close();
      await run("umount", [point]);
      await run("e2fsck", ["-fn", `${NODE}2`]);
      await world.xvd("part", "rm", disk, "2");
      await expect.poll(() => existsSync(`${NODE}2`)).toBe(false);
      await world.xvd("detach", VDEV);
    });

    test("the first free name is one that this machine has not given to another device", async () => {
      await world.xvd("create", "f.dsk", "8M");
      const own = await writeFile("/dev/xvda", "", { flag: "wx" }).then(
        () => true,
        () => false, // there is one anyway
      );
      try {
        const { "kernel-device": node } = await world.json<Attached>("attach", "f.dsk", "--kernel", "always");
        expect(node).toMatch(/^\/dev\/xvd(?!a$)[a-z]+$/);
        await world.xvd("detach", node);
      } finally {
        if (own) rmSync("/dev/xvda");
      }
    });

    test("a name that this machine has given to another device is told, and not touched", async () => {
      const node = `${NODE}b`;
      await world.xvd("create", "b.dsk", "8M");
      writeFileSync(node, "somebody else's", { flag: "wx" });
      try {
        const attached = await world.run(["attach", "b.dsk", "--kernel", "auto", "--vdev", `${VDEV}b`]);
        expect(attached).toMatchObject({
          code: 0,
          stderr: expect.stringContaining(`${node} of this machine's kernel is another device, not b.dsk`),
        });
        expect(attached.stdout).toContain(
          `kernel none: cannot make "${node}": it exists already, and is not replaced\n`,
        );
        await world.xvd("detach", `${VDEV}b`);
        expect(readFileSync(node, "utf8")).toBe("somebody else's");
      } finally {
        rmSync(node);
      }
    });
  },
);
