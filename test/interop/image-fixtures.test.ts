/** Images as QEMU makes them, by `fixtures/images/make.sh`: each holds the same disk. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { openDisk } from "#src/stack/disk.js";
import { havePeer } from "../support/peers.js";
import { tempDir } from "../support/temp-dir.js";

const MAKE = fileURLToPath(new URL("../../fixtures/images/make.sh", import.meta.url));

describe.skipIf(!havePeer("qemu-img"))("images of one disk", () => {
  const dir = tempDir();
  const made = [...readFileSync(MAKE, "utf8").matchAll(/^make (\S+) /gm)].map(([, name]) => name!);

  beforeAll(() => {
    const { status, stderr } = spawnSync("bash", [MAKE, dir], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(readdirSync(dir).sort()).toEqual([...made, "disk.raw"].sort());
  });

  test.each(made)("%s", async (name) => {
    const disk = readFileSync(join(dir, "disk.raw"));
    const image = await openDisk(join(dir, name));
    const found = Buffer.alloc(image.size);
    await image.read(0, found);
    await image.close();
    expect(found.subarray(0, disk.length).equals(disk)).toBe(true);
    expect(found.subarray(disk.length).every((byte) => byte === 0)).toBe(true);
  });
});
