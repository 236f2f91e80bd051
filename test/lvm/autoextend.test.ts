/** Growing by policy: how much, from which configuration, and a snapshot that is kept from overflowing. */
import { writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { autoextendAmount, autoextendPolicy } from "#src/lvm/changes/autoextend.js";
import { xvdWorld } from "../support/xvd.js";
import { disk, rows } from "./world.js";

describe("the amount", () => {
  test.each([
    ["not full enough", 70, 70, 20, 0],
    ["by the policy", 71, 70, 20, 20],
    ["what is needed to get below the threshold", 98, 70, 20, 40],
    ["switched off", 100, 100, 20, 0],
    ["a threshold below 50 counts as 50", 45, 10, 20, 0],
    ["a threshold below 50 counts as 50, beyond it", 60, 10, 5, 20],
  ])("%s", (_, used, threshold, percent, expected) =>
    expect(autoextendAmount(used, { threshold, percent })).toBe(expected),
  );

  test("the configuration in both of LVM2's forms, the last one counts", () => {
    const file = "activation {\n# a comment\nsnapshot_autoextend_threshold = 80\nsnapshot_autoextend_percent = 30\n}\n";
    expect(autoextendPolicy("snapshot", [])).toEqual({ threshold: 100, percent: 20 });
    expect(autoextendPolicy("snapshot", [file])).toEqual({ threshold: 80, percent: 30 });
    expect(autoextendPolicy("snapshot", [file, "activation/snapshot_autoextend_threshold=60"])).toEqual({
      threshold: 60,
      percent: 30,
    });
    expect(autoextendPolicy("thin_pool", [file])).toEqual({ threshold: 100, percent: 20 });
    expect(() => autoextendPolicy("snapshot", ['activation/snapshot_autoextend_percent="much"'])).toThrow(
      /whole percents/,
    );
  });
});

test("a snapshot that fills grows before it is full", async () => {
  const world = xvdWorld();
  disk(world, "p.dsk", 96 << 20);
  await world.xvd("vgcreate", "-s", "1m", "vg", "p.dsk");
  await world.xvd("lvcreate", "-L", "32M", "-n", "root", "vg");
  await world.xvd("lvcreate", "-s", "-L", "10M", "-n", "before", "vg/root");
  writeFileSync(world.path("home/lvm/lvm.conf"), "activation { snapshot_autoextend_threshold = 70 }\n");
  expect(await world.xvd("lvextend", "--use-policies", "vg/before")).toMatch(/no need to extend/);
  await world.xvd("io", "lvm:vg/root", "-c", "write -P 1 0 8M");
  await world.xvd("lvextend", "--use-policies", "vg/before");
  const size = async () => (await rows(world, "lvs", "-o", "lv_size", "--units", "m", "vg/before"))[0]!.lv_size;
  expect(await size()).toBe("12.00m");
  expect(await world.xvd("lvextend", "--use-policies", "vg/before")).toMatch(/no need/);
  await world.xvd("io", "lvm:vg/before", "-c", "read -P 0 0 8M");
  expect((await world.run(["lvextend", "--use-policies", "vg/root"])).stderr).toMatch(/no snapshot and no pool/);
});
