/** Texts kept on the host: numbered, found by id after a rename, thinned out, never outside of their folder. */
import { readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  archiveGroup,
  backupGroup,
  backupPath,
  listArchive,
  readBackup,
  removeBackup,
} from "#src/stack/lvm/archive.js";
import { tempDir } from "../support/temp-dir.js";
import { HEADER, seededRandom, valueGroup } from "./support.js";

const DAY = 24 * 3600;
const NOW = Math.floor(Date.now() / 1000);
const header = { ...HEADER, creationTime: NOW };

test("archives are numbered, and found by the group's id under its new name", () => {
  const home = tempDir();
  const random = seededRandom(3);
  const group = valueGroup([4]);
  const paths = [1, 2].map((seqno) => archiveGroup(home, { ...group, seqno }, header, random));
  expect(paths.map((path) => /vg_(\d{5})-\d+\.vg$/.exec(path)?.[1])).toEqual(["00000", "00001"]);
  expect(listArchive(home, "renamed", group.id).map((archived) => archived.group.seqno)).toEqual([2, 1]);
  expect(listArchive(home, "vg", null)).toHaveLength(2);
  expect(listArchive(home, "other", null)).toEqual([]);
  writeFileSync(paths[1]!, "damaged {");
  expect(listArchive(home, "vg", group.id).map((archived) => archived.path)).toEqual([paths[0]]);
});

test("ten archives and those of thirty days stay", () => {
  const home = tempDir();
  const random = seededRandom(4);
  const folder = join(home, "lvm", "archive");
  for (let seqno = 0; seqno < 14; seqno++) {
    const path = archiveGroup(home, { ...valueGroup([4]), seqno }, header, random);
    if (seqno < 6) utimesSync(path, NOW - 40 * DAY, NOW - 40 * DAY);
  }
  const numbers = readdirSync(folder).map((name) => Number(/_(\d+)-/.exec(name)?.[1]));
  expect(numbers.sort((a, b) => a - b)).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
});

test("backups are replaced; a name from a disk never leads out of the folder", () => {
  const home = tempDir();
  const group = valueGroup([4]);
  backupGroup(home, group, header);
  backupGroup(home, { ...group, seqno: 9 }, header);
  expect(readBackup(backupPath(home, "vg")).group.seqno).toBe(9);
  removeBackup(home, "vg");
  expect(() => readBackup(backupPath(home, "vg"))).toThrow(/no such file/);
  for (const name of ["../evil", "/etc/evil", "..", ""]) {
    const bad = { ...group, name };
    for (const use of [
      () => backupGroup(home, bad, header),
      () => archiveGroup(home, bad, header, seededRandom(1)),
      () => backupPath(home, name),
      () => removeBackup(home, name),
    ])
      expect(use).toThrow(/Cannot use volume group name/);
  }
});
