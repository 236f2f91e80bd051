/** Random sequences of commands given to LVM2 and to us, and after each one the same reports. For tests of two lengths. */
import { truncateSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { expect } from "vitest";
import { type XvdWorld, xvdWorld } from "../support/xvd.js";
import { type Lvm2, lvm2In } from "./lvm2-support.js";

const MIB = 1 << 20;
const DISKS = 4;

/** Words of a command; `q0` … stand for physical volumes. */
type Command = readonly string[];

const group = fc.constantFrom("v", "v", "w");
const volume = fc.constantFrom("a", "a", "b", "c");
const pv = fc.integer({ min: 0, max: DISKS - 1 }).map((i) => `q${i}`);
const extents = fc.integer({ min: 1, max: 14 }).map(String);
const yes = fc.constantFrom("y", "n");
const tag = fc.constantFrom("fast", "slow");
const words = (...parts: (string | fc.Arbitrary<string>)[]): fc.Arbitrary<Command> =>
  fc.tuple(...parts.map((part) => (typeof part === "string" ? fc.constant(part) : part)));
const full = fc.tuple(group, volume).map(([vg, lv]) => `${vg}/${lv}`);

/** Volumes name their physical ones: LVM2 promises no order among several, and what is free on which decides what goes on. */
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: words("lvcreate", "-l", extents, "-n", volume, group, pv) },
  { weight: 2, arbitrary: words("lvcreate", "-i", "2", "-I", "64k", "-l", extents, "-n", volume, group, pv, pv) },
  {
    weight: 1,
    arbitrary: words("lvcreate", "--type", fc.constantFrom("zero", "error"), "-l", extents, "-n", volume, group),
  },
  {
    weight: 3,
    arbitrary: words(
      "lvextend",
      "-l",
      extents.map((count) => `+${count}`),
      full,
      pv,
    ),
  },
  {
    weight: 2,
    arbitrary: words(
      "lvreduce",
      "-y",
      "-f",
      "-l",
      extents.map((count) => `-${count}`),
      full,
    ),
  },
  { weight: 2, arbitrary: words("lvremove", "-y", full) },
  { weight: 1, arbitrary: words("lvrename", group, volume, volume) },
  { weight: 1, arbitrary: words("lvchange", "-p", fc.constantFrom("r", "rw"), full) },
  { weight: 1, arbitrary: words("lvchange", fc.constantFrom("--addtag", "--deltag"), tag, full) },
  { weight: 1, arbitrary: words("lvchange", "--alloc", fc.constantFrom("contiguous", "cling", "inherit"), full) },
  { weight: 1, arbitrary: words("vgchange", fc.constantFrom("-l", "-p"), fc.constantFrom("0", "2", "5"), group) },
  { weight: 1, arbitrary: words("vgchange", fc.constantFrom("--addtag", "--deltag"), tag, group) },
  { weight: 1, arbitrary: words("vgchange", "-x", yes, group) },
  { weight: 1, arbitrary: words("vgchange", "-s", fc.constantFrom("512k", "1m", "2m"), group) },
  { weight: 1, arbitrary: words("vgchange", "-u", group) },
  { weight: 1, arbitrary: words("pvchange", "-x", yes, pv) },
  { weight: 1, arbitrary: words("pvchange", fc.constantFrom("--addtag", "--deltag"), tag, pv) },
  { weight: 1, arbitrary: words("pvchange", "-u", pv) },
  { weight: 2, arbitrary: words("vgreduce", group, pv) },
  { weight: 2, arbitrary: words("vgextend", group, pv) },
  { weight: 3, arbitrary: words("vgsplit", group, group, pv) },
  { weight: 2, arbitrary: words("vgsplit", "-n", volume, group, group) },
  { weight: 3, arbitrary: words("vgmerge", group, group) },
  { weight: 1, arbitrary: words("vgrename", group, group) },
  { weight: 1, arbitrary: words(fc.constantFrom("vgexport", "vgimport", "vgimport"), group) },
);

/** What random commands find to work with. */
const BEGIN: readonly Command[] = [
  ["lvcreate", "-l", "5", "-n", "a", "v", "q0"],
  ["lvcreate", "-i", "2", "-I", "64k", "-l", "6", "-n", "b", "v", "q1", "q2"],
  ["vgsplit", "v", "w", "q3"],
];

export const sequence = (length: number): fc.Arbitrary<Command[]> =>
  fc.array(command, { minLength: length, maxLength: length }).map((commands) => [...BEGIN, ...commands]);

const REPORTS = {
  vgs: [
    "vg_name,vg_attr,vg_extent_count,vg_free_count,vg_extent_size,pv_count,lv_count,max_lv,max_pv,vg_tags,vg_allocation_policy,vg_mda_count,vg_exported,vg_extendable",
    "vg_name",
  ],
  lvs: ["lv_full_name,lv_size,lv_attr,lv_layout,lv_role,lv_allocation_policy,lv_tags,lv_parent", "lv_full_name"],
  pvs: ["pv_name,vg_name,pv_attr,pv_pe_count,pv_pe_alloc_count,pv_tags,pe_start,pv_in_use,pv_allocatable", "pv_name"],
} as const;

/** State and open are a kernel's. */
const known = (row: Record<string, string>) =>
  row.lv_attr === undefined ? row : { ...row, lv_attr: row.lv_attr.slice(0, 4) };

/** Both sides with the same disks and the group v on all of them. */
export async function runSequence(commands: readonly Command[]): Promise<{ done: number; failed: number }> {
  const world = xvdWorld();
  const lvm2 = lvm2In(world.path("lvm2"));
  try {
    const numbers = Array.from({ length: DISKS }, (_, i) => i);
    const disk = (name: string, i: number) => {
      writeFileSync(world.path(name), "");
      truncateSync(world.path(name), (24 + 4 * i) * MIB);
      return name;
    };
    const theirs = new Map(numbers.map((i) => [`q${i}`, lvm2.attach(`q${i}`, world.path(disk(`q${i}.img`, i)))]));
    const ours = new Map(numbers.map((i) => [`q${i}`, disk(`p${i}.dsk`, i)]));
    lvm2.run("vgcreate", "-y", "-s", "1m", "v", ...theirs.values());
    await world.xvd("vgcreate", "-s", "1m", "v", ...ours.values());
    const counts = { done: 0, failed: 0 };
    const told: string[] = [];
    for (const [verb = "", ...args] of commands) {
      const create = verb === "lvcreate" ? ["-y", "-an", "-Zn", "-Wn"] : [];
      const their = lvm2.attempt(verb, ...create, ...args.map((word) => theirs.get(word) ?? word));
      const our = await world.run([verb, ...args.map((word) => ours.get(word) ?? word)]);
      told.push(`${verb} ${args.join(" ")}${their.ok ? "" : " (failed)"}`);
      const told2 = `${told.join("\n")}\nLVM2: ${their.output}\nxvd: ${our.stdout}${our.stderr}`;
      expect(our.code === 0, told2).toBe(their.ok);
      counts[their.ok ? "done" : "failed"]++;
      if (their.ok) await expectSame(world, lvm2, told2);
    }
    expect((await world.run(["vgck"])).stderr).toBe("");
    return counts;
  } finally {
    lvm2.detach();
  }
}

async function expectSame(world: XvdWorld, lvm2: Lvm2, told: string): Promise<void> {
  for (const [report, [fields, sort]] of Object.entries(REPORTS)) {
    const args = ["-o", fields, "-O", sort];
    const text = await world.xvd(report, ...args, "--reportformat", "json");
    const rows = Object.values(JSON.parse(text.replace(/[^"\s]*\/p(\d)\.dsk/g, "q$1")).report[0])[0] as Record<
      string,
      string
    >[];
    expect(rows.map(known), `${report} after\n${told}`).toEqual(lvm2.report(report as "vgs", ...args).map(known));
  }
}
