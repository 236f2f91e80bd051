/** Changes taken back, shown beforehand, kept in files. */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { findGroup, scanDevices } from "#src/lvm/scan.js";
import { planRestore } from "#src/stack/lvm/restore.js";
import { xvdWorld } from "../support/xvd.js";
import { referenceDisks } from "./support.js";
import { group, names } from "./world.js";

describe("undo", () => {
  test("every change is taken back by vgcfgrestore --last, and brought again by a second one", async () => {
    const world = xvdWorld();
    await group(world);
    await world.xvd("lvcreate", "-L", "8M", "-n", "a", "vg0");
    await world.xvd("io", "lvm:vg0/a", "-c", "write -P 0x77 0 8M");
    const changes = [
      ["lvremove", "vg0/a"],
      ["lvreduce", "-f", "-L", "4M", "vg0/a"],
      ["vgrename", "vg0", "vg1"],
      ["vgreduce", "vg0", "p1.dsk"],
      ["vgremove", "-y", "vg0"],
    ];
    for (const change of changes) {
      await world.xvd(...change);
      await world.xvd("vgcfgrestore", "--last", change[0] === "vgrename" ? "vg1" : "vg0");
      await world.xvd("io", "lvm:vg0/a", "-c", "read -P 0x77 0 8M");
      await world.xvd("vgck", "vg0");
    }
    await world.xvd("lvremove", "vg0/a");
    await world.xvd("vgcfgrestore", "--last", "vg0");
    await world.xvd("vgcfgrestore", "--last", "vg0");
    expect(await names(world)).toEqual([]);
    expect(
      (await world.json<{ archives: unknown[] }>("vgcfgrestore", "--list", "vg0")).archives.length,
    ).toBeGreaterThan(8);
  });

  test("a dry run writes nothing and shows the change", async () => {
    const world = xvdWorld();
    await group(world);
    const before = readFileSync(world.path("p0.dsk"));
    const shown = await world.xvd("lvcreate", "--dry-run", "-L", "8M", "-n", "a", "vg0");
    expect(shown).toContain("+ vg0/logical_volumes/a/segment1/extent_count = 2");
    expect(shown).toMatch(/- vg0\/seqno = 1\n\+ vg0\/seqno = 2/);
    await world.xvd("vgremove", "--dry-run", "vg0");
    await world.xvd("pvcreate", "-ff", "--dry-run", "p0.dsk");
    expect(Buffer.compare(readFileSync(world.path("p0.dsk")), before)).toBe(0);
  });

  test("a backup goes to a file and back", async () => {
    const world = xvdWorld();
    await group(world);
    await world.xvd("lvcreate", "-l", "3", "-n", "a", "vg0");
    await world.xvd("vgcfgbackup", "-f", "%s.vg", "vg0");
    await world.xvd("lvremove", "vg0/a");
    expect(await world.xvd("vgcfgrestore", "-f", "vg0.vg", "vg0")).toBe("  Restored volume group vg0.\n");
    expect(await names(world)).toEqual(["a"]);
    writeFileSync(world.path("vg0.vg"), "nothing {");
    expect(await world.run(["vgcfgrestore", "-f", "vg0.vg", "vg0"])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/cannot read "vg0.vg"/),
    });
  });
});

test("a group with thin volumes is restored as long as its pools are as they were", async () => {
  const scan = await scanDevices(referenceDisks());
  const { group } = findGroup(scan, "vgref");
  const without = (name: string) => ({
    ...group,
    logicalVolumes: group.logicalVolumes.filter((volume) => volume.name !== name),
  });
  expect(planRestore(scan, without("lin"), "vgref").change.group?.logicalVolumes.length).toBe(
    group.logicalVolumes.length - 1,
  );
  const thin = group.logicalVolumes.find(({ segments }) => segments[0]?.type === "thin")!;
  expect(() => planRestore(scan, without(thin.name), "vgref")).toThrow(/pools have changed since then/);
  expect(planRestore(scan, without(thin.name), "vgref", true).found?.group).toBe(group);
  const pool = group.logicalVolumes.find(({ segments }) => segments[0]?.type === "thin-pool")!;
  const older = {
    ...pool,
    segments: pool.segments.map((segment) => ({
      ...segment,
      fields: segment.fields.map((field) =>
        field.kind === "assign" && field.key === "transaction_id" ? { ...field, value: 0 } : field,
      ),
    })),
  };
  const logicalVolumes = group.logicalVolumes.map((volume) => (volume === pool ? older : volume));
  expect(() => planRestore(scan, { ...group, logicalVolumes }, "vgref")).toThrow(/pools have changed/);
});
