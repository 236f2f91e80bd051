/** The same commands given to LVM2 and to us, and the same sizes printed by both. */
import { truncateSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { printSize } from "#src/lvm/report/units.js";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import { haveLvm2, type Lvm2, lvm2In } from "./lvm2-support.js";

const MIB = 1 << 20;
const open: Lvm2[] = [];

afterEach(() => {
  for (const lvm2 of open.splice(0)) lvm2.detach();
});

function lvm2For(world: XvdWorld): Lvm2 {
  const lvm2 = lvm2In(world.path("lvm2"));
  open.push(lvm2);
  return lvm2;
}

function disk(world: XvdWorld, name: string, size: number): string {
  writeFileSync(world.path(name), "");
  truncateSync(world.path(name), size);
  return name;
}

function succeeds(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!haveLvm2)("side by side with LVM2", () => {
  test("the same commands give the same extents", async () => {
    const world = xvdWorld();
    const lvm2 = lvm2For(world);
    const sizes = [40, 64, 52];
    const paths = sizes.map((size, i) => lvm2.attach(`q${i}`, world.path(disk(world, `q${i}.dsk`, size * MIB))));
    const ours = sizes.map((size, i) => disk(world, `p${i}.dsk`, size * MIB));
    lvm2.run("vgcreate", "-y", "-s", "1m", "vg", ...paths);
    await world.xvd("vgcreate", "-s", "1m", "vg", ...ours);
    /** With the extents that both choose. LVM2 promises no order; where holes of several sizes are free it is its own. */
    const exact = [
      ["lvcreate", "-l", "10", "-n", "a", "vg"],
      ["lvcreate", "-l", "35", "-n", "b", "vg"],
      ["lvcreate", "-i", "2", "-l", "9", "-n", "c", "vg"],
      ["lvextend", "-l", "+7", "vg/a"],
      ["lvcreate", "-C", "y", "-l", "12", "-n", "d", "vg"],
      ["lvremove", "vg/b"],
      ["lvcreate", "-i", "3", "-I", "8k", "-l", "6", "-n", "e", "vg"],
      ["lvextend", "-l", "+30", "vg/d"],
      ["lvextend", "-l", "+6", "vg/c"],
      ["lvreduce", "-y", "-l", "-3", "vg/a"],
    ];
    const sized = [
      ["lvcreate", "-l", "20", "-n", "f", "vg"],
      ["lvcreate", "-l", "50%FREE", "-n", "h", "vg"],
      ["lvresize", "-y", "-l", "4", "vg/c"],
      ["lvextend", "-l", "+10%VG", "vg/e"],
      ["lvcreate", "-l", "1000", "-n", "i", "vg"],
      ["lvcreate", "-l", "100%FREE", "-n", "g", "vg"],
      ["lvextend", "-l", "+1", "vg/a"],
    ];
    const places = ["-o", "lv_name,seg_pe_ranges,segtype,stripe_size", "--segments", "-O", "lv_name,seg_start_pe"];
    for (const [list, fields] of [
      [exact, places],
      [sized, ["-o", "lv_name,lv_size,vg_free_count,lv_allocation_policy", "-O", "lv_name"]],
    ] as const)
      for (const [command, ...args] of list as [string, ...string[]][]) {
        const theirs = succeeds(() =>
          lvm2.run(command, ...(command === "lvcreate" ? ["-y", "-an", "-Zn", "-Wn"] : []), ...args),
        );
        const result = await world.run([command, ...args]);
        const text = `${command} ${args.join(" ")}: ${result.stderr}`;
        expect(result.code === 0, text).toBe(theirs);
        const shown = JSON.parse(
          (await world.xvd("lvs", ...fields, "--reportformat", "json")).replace(/[^"\s]*\/p(\d)\.dsk/g, "q$1"),
        );
        expect(Object.values(shown.report[0])[0], text).toEqual(lvm2.report("lvs", ...fields));
      }
  });

  test("sizes in every unit", async () => {
    const world = xvdWorld();
    const lvm2 = lvm2For(world);
    const path = lvm2.attach("p0", world.path(disk(world, "p0.dsk", 64 * MIB)));
    lvm2.run("vgcreate", "-y", "-s", "1k", "vg", path);
    const kib = [
      1, 3, 999, 1000, 1001, 1023, 1024, 1025, 10234, 102399, 104857, 1048575, 1048576, 1073741, 1073741823, 1099511,
      4294967294,
    ];
    for (const [i, size] of kib.entries())
      lvm2.run("lvcreate", "-y", "-an", "-Zn", "-Wn", "--type", "zero", "-l", String(size), "-n", `v${i}`, "vg");
    for (const unit of "rRhHbBsSkKmMgGtTpPeE")
      for (const suffix of [true, false]) {
        const args = ["-o", "lv_size,seg_start", "-O", "lv_size", "--units", unit, ...(suffix ? [] : ["--nosuffix"])];
        const theirs = lvm2.report("lvs", ...args);
        const ours = kib
          .toSorted((a, b) => a - b)
          .map((size) => ({
            lv_size: printSize(size * 1024, { unit, suffix }),
            seg_start: printSize(0, { unit, suffix }),
          }));
        expect(ours, `--units ${unit}${suffix ? "" : " --nosuffix"}`).toEqual(theirs);
      }
  });
});
