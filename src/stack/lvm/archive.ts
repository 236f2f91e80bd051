/**
 * Texts of groups kept on the host, as LVM2 keeps them below /etc/lvm: XVD_HOME/lvm/archive/VG_00001-RANDOM.vg from before each change,
 * XVD_HOME/lvm/backup/VG as it is now. Of each group's archive at least ten files and those of the last thirty days stay.
 */
import { join } from "node:path";
import { DiskError } from "../../errors.js";
import type { Random } from "../../lvm/id.js";
import type { TextHeader, VolumeGroup } from "../../lvm/metadata.js";
import { checkGroupName } from "../../lvm/names.js";
import { printBackup } from "../../lvm/print-group.js";
import { type GroupText, readGroupText } from "../../lvm/read-group.js";
import { filesIn, makeFolder, readTextFile, removeFile, writeTextFile } from "../../os/state-files.js";

const KEEP_FILES = 10;
const KEEP_DAYS = 30;
const DAY_SECONDS = 24 * 3600;

export interface ArchivedGroup extends GroupText {
  readonly path: string;
  /** Raised by each archive of a group's name. */
  readonly number: number;
}

const archiveFolder = (home: string) => join(home, "lvm", "archive");

/** Returns the file's path. Durable when it returns. */
export function archiveGroup(home: string, group: VolumeGroup, header: TextHeader, random: Random): string {
  checkGroupName(group.name); // it comes from a disk and becomes the name of a file
  const folder = archiveFolder(home);
  makeFolder(folder);
  const own = numbered(home).filter(({ name }) => name === group.name);
  const number = own.reduce((most, file) => Math.max(most, file.number), -1) + 1;
  const suffix = new DataView(Uint8Array.from(random(4)).buffer).getUint32(0);
  const path = join(folder, `${group.name}_${String(number).padStart(5, "0")}-${suffix}.vg`);
  writeTextFile(path, printBackup(group, header), "latin1");
  for (const old of own.toReversed().slice(KEEP_FILES - 1))
    if (old.changed / 1000 < header.creationTime - KEEP_DAYS * DAY_SECONDS) removeFile(join(folder, old.file));
  return path;
}

export function backupGroup(home: string, group: VolumeGroup, header: TextHeader): void {
  checkGroupName(group.name);
  const folder = join(home, "lvm", "backup");
  makeFolder(folder);
  writeTextFile(join(folder, group.name), printBackup(group, header), "latin1");
}

export function removeBackup(home: string, name: string): void {
  checkGroupName(name);
  removeFile(join(home, "lvm", "backup", name));
}

/** The archives of a group, newest first: by its id when there is such a group, and by its name. */
export function listArchive(home: string, name: string, id: string | null): ArchivedGroup[] {
  const found: ArchivedGroup[] = [];
  const files = numbered(home).sort((a, b) => b.changed - a.changed || b.number - a.number);
  for (const { file, name: archived, number } of files) {
    if (id === null && archived !== name) continue;
    const path = join(archiveFolder(home), file);
    const text = readArchived(path);
    if (text && (id === null || text.group.id === id)) found.push({ ...text, path, number });
  }
  return found;
}

/** A backup or archive file that the user names. */
export function readBackup(path: string): GroupText {
  const text = readTextFile(path);
  if (text === null) throw new DiskError("NOT_FOUND", `Cannot read ${JSON.stringify(path)}: no such file or directory`);
  return readGroupText(text, JSON.stringify(path));
}

/** Where vgcfgbackup puts a group when no file is named. */
export function backupPath(home: string, name: string): string {
  checkGroupName(name);
  return join(home, "lvm", "backup", name);
}

/** A file that was damaged is no reason to lose sight of the others. */
function readArchived(path: string): GroupText | null {
  try {
    return readBackup(path);
  } catch (error) {
    if (error instanceof DiskError && (error.code === "CORRUPT" || error.code === "NOT_FOUND")) return null;
    throw error;
  }
}

function numbered(home: string) {
  return filesIn(archiveFolder(home)).flatMap(({ name: file, changed }) => {
    const [, name, digits] = /^(.+)_(\d{5,9})-\d+\.vg$/.exec(file) ?? [];
    return name && digits ? [{ file, name, number: Number(digits), changed }] : [];
  });
}
